"""The texts that a name or a path can stand for, and how each is read."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from come.errors import ComeError, did_you_mean
from come.settings import file_and_column
from come.text import hub
from come.text.documents import Content, Split
from come.text.drawn_rows import draw, is_drawn
from come.text.mix import mix
from come.text.own_text import ENDINGS, SUFFIXES, form_of_file, read_file
from come.text.python_docs import python_docs

PYTHON_DOCS, MIX = "python-docs", "mix"
SELF = "self"  # not a text, but what a model says: `tokens` samples it


@dataclass(frozen=True)
class TextSource:
    """A text that is known by name.

    Attributes:
        name: what ``come.tokens`` takes.
        title: what people read.
        where: "bundled" (needs no network), "model" (sampled from the model itself) or "hub" (the Hugging Face hub).
        note: one sentence about it.
    """

    name: str
    title: str
    where: Literal["bundled", "model", "hub"]
    note: str


_BUNDLED = (
    TextSource(
        PYTHON_DOCS,
        "Python language reference",
        "bundled",
        "The language reference in Python's standard library; it differs a little by Python version.",
    ),
    TextSource(
        MIX,
        "Mix of several kinds",
        "bundled",
        "The World Factbook, Python's language reference and library, documentation and licences of the installed "
        "packages, in turn; it differs by what is installed.",
    ),
    TextSource(
        SELF,
        "Sampled from the model itself",
        "model",
        "What the original model itself says, drawn at temperature 1: no corpus is needed, but a minute or more once.",
    ),
)


def known_texts() -> list[TextSource]:
    """Every text that has a short name, those that need no network first."""
    return [*_BUNDLED, *(TextSource(entry.name, entry.title, "hub", entry.note) for entry in hub.SETS.values())]


def describe_text(
    text: str | os.PathLike[str], split: Split = "calibration", tokenizer: Any = None
) -> dict[str, str | int]:
    """Name, title, hash and length in characters of a text, as results record them; of a file with rows its form, too.

    Args:
        text, split, tokenizer: as in ``content``.

    Raises:
        ComeError: the text is unknown or cannot be read.
    """
    name, found = os.fspath(text), content(text, split, tokenizer)
    titles = {source.name: source.title for source in known_texts()}
    told = {"name": name, "title": titles.get(name, short_name(name)), "hash": _sha256(found.characters)}
    return {**told, "characters": len(found.characters), **({"form": found.form} if found.form else {})}


def short_name(text: str) -> str:
    """A text as people read it: a known one's name, or a file's without its folder."""
    file, column = file_and_column(text)
    return f"{Path(file).name}:{column}" if column else Path(file).name


def form_of_text(text: str | os.PathLike[str]) -> str:
    """In which form a file will be read, by its first row that holds something; "" for other texts and for plain ones.

    Raises:
        ComeError: it is a file that cannot be read.
    """
    return form_of_file(os.fspath(text)) if _is_file(text) and not is_drawn(os.fspath(text)) else ""


def text_hash(text: str | os.PathLike[str], split: Split = "calibration", tokenizer: Any = None) -> str:
    """SHA-256 (hex) of what ``read`` returns, in UTF-8."""
    return _sha256(read(text, split, tokenizer))


def has_own_splits(text: str | os.PathLike[str]) -> bool:
    """Whether the text comes in parts, so that ``read`` returns one of them rather than the whole."""
    entry = hub.SETS.get(os.fspath(text))
    return os.fspath(text) == MIX or (entry is not None and entry.evaluation is not None)


def read(text: str | os.PathLike[str], split: Split = "calibration", tokenizer: Any = None) -> str:
    """The characters of a text: ``content`` says more."""
    return content(text, split, tokenizer).characters


def content(text: str | os.PathLike[str], split: Split = "calibration", tokenizer: Any = None) -> Content:
    """What a text holds, cut at ``documents.MAX_CHARACTERS``.

    Args:
        text: a name of ``known_texts()``, or the path of a file: .txt is taken as it is; the rows of .jsonl, .json,
            .csv and .parquet are documents of one of the forms in ``come.text.forms``, or "data.csv:body" names the
            column that is to be read, or the list of rows, as in {"train": [...]}. Behind a hub set or a .txt
            ":rows=256,seed=10" draws so many of its rows or lines (``come.text.drawn_rows``).
        split: for a text that has parts of its own (`mix`, some hub sets), which to read; any other is read whole.
        tokenizer: the model's, whose chat template conversations go through; without one they are written plainly.

    Raises:
        ComeError: the text is unknown, missing, unreadable, not UTF-8, malformed, empty, or out of reach.
    """
    name = os.fspath(text)
    if is_drawn(name):
        found = draw(name, split)
    elif name == PYTHON_DOCS:
        found = Content(python_docs())
    elif name == MIX:
        found = Content(mix(split))
    elif name == SELF:
        raise _only_said(split)
    elif name in hub.SETS:
        found = Content(hub.fetch(name, split))
    elif _is_file(text):
        found = read_file(name, tokenizer)
    else:
        raise _unknown(name)
    if not found.characters.strip():
        raise ComeError(f"The text '{name}' is empty.", "Choose one that holds some text.")
    return found


def _only_said(split: Split) -> ComeError:
    if split == "evaluation":
        return ComeError(
            "The text 'self' is what the model says itself, and nothing can be judged on that.",
            f"Name a text that was written by others, such as {PYTHON_DOCS} or {MIX}.",
        )
    return ComeError(
        "The text 'self' is sampled from a model, and there is none here.", "Take come.tokens with a model."
    )


def _is_file(text: str | os.PathLike[str]) -> bool:
    """Whether a text is no known one, and looks like a path."""
    name, named = os.fspath(text), file_and_column(os.fspath(text))[0]
    if name in {source.name for source in known_texts()}:
        return False
    looks_like_one = named.lower().endswith(SUFFIXES) or os.sep in name or "/" in name or os.path.exists(name)
    return isinstance(text, os.PathLike) or looks_like_one


def _unknown(name: str) -> ComeError:
    known = [source.name for source in known_texts()]
    others = f"Name a {ENDINGS} file, or one of: {', '.join(known)}."
    return ComeError(f"There is no text named '{name}'.", did_you_mean(name.lower(), known, others, cutoff=0.5))


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
