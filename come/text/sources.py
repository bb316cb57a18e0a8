"""The texts that a name or a path can stand for, and how each is read."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from come.errors import ComeError
from come.settings import expanded
from come.text import hub
from come.text.documents import MAX_CHARACTERS, Split, join
from come.text.mix import mix
from come.text.python_docs import python_docs

PYTHON_DOCS, MIX = "python-docs", "mix"
SELF = "self"  # not a text, but what a model says: `tokens` samples it
SUFFIXES = (".txt", ".jsonl")


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


def describe_text(text: str | os.PathLike[str]) -> dict[str, str | int]:
    """Name, title, hash and length in characters of a text, as results record them.

    Raises:
        ComeError: the text is unknown or cannot be read.
    """
    name = os.fspath(text)
    titles = {source.name: source.title for source in known_texts()}
    content = read(text)
    title = titles.get(name, Path(name).name)
    return {"name": name, "title": title, "hash": _sha256(content), "characters": len(content)}


def text_hash(text: str | os.PathLike[str], split: Split = "calibration") -> str:
    """SHA-256 (hex) of what ``read`` returns, in UTF-8."""
    return _sha256(read(text, split))


def has_own_splits(text: str | os.PathLike[str]) -> bool:
    """Whether the text comes in parts, so that ``read`` returns one of them rather than the whole."""
    entry = hub.SETS.get(os.fspath(text))
    return os.fspath(text) == MIX or (entry is not None and entry.evaluation is not None)


def read(text: str | os.PathLike[str], split: Split = "calibration") -> str:
    """The characters of a text, cut at ``documents.MAX_CHARACTERS``.

    Args:
        text: a name of ``known_texts()``, or the path of a file: .txt is taken as it is, .jsonl gives the
            field "text" of each line, joined by empty lines.
        split: for a text that has parts of its own (`mix`, some hub sets), which to read; any other is read whole.

    Raises:
        ComeError: the text is unknown, missing, unreadable, not UTF-8, malformed, empty, or out of reach.
    """
    name = os.fspath(text)
    if name == PYTHON_DOCS:
        content = python_docs()
    elif name == MIX:
        content = mix(split)
    elif name == SELF:
        raise _only_said(split)
    elif name in hub.SETS:
        content = hub.fetch(name, split)
    elif isinstance(text, os.PathLike) or _looks_like_path(name):
        content = _read_file(expanded(name))
    else:
        raise _unknown(name)
    if not content.strip():
        raise ComeError(f"The text '{name}' is empty.", "Choose one that holds some text.")
    return content


def _only_said(split: Split) -> ComeError:
    if split == "evaluation":
        return ComeError(
            "The text 'self' is what the model says itself, and nothing can be judged on that.",
            f"Name a text that was written by others, such as {PYTHON_DOCS} or {MIX}.",
        )
    return ComeError(
        "The text 'self' is sampled from a model, and there is none here.", "Take come.tokens with a model."
    )


def _looks_like_path(name: str) -> bool:
    return name.endswith(SUFFIXES) or os.sep in name or "/" in name or os.path.exists(name)


def _unknown(name: str) -> ComeError:
    known = [source.name for source in known_texts()]
    near = get_close_matches(name.lower(), known, n=2, cutoff=0.5)
    others = f"Name a .txt or .jsonl file, or one of: {', '.join(known)}."
    return ComeError(f"There is no text named '{name}'.", f"Did you mean {' or '.join(near)}?" if near else others)


def _read_file(path: Path) -> str:
    if os.path.isdir(path):
        raise ComeError(f"{path} is a folder.", "Name a .txt or .jsonl file in it.")
    if not os.path.exists(path):
        raise ComeError(f"There is no file {path}.", "Check the path of the text.")
    if not os.path.isfile(path) or path.suffix not in SUFFIXES:
        raise ComeError(f"{path} is not a text that can be read.", "Name a file that ends in .txt or .jsonl.")
    try:
        # newline="": line ends are taken as they are. "utf-8-sig": a byte order mark is not text.
        with path.open(encoding="utf-8-sig", newline="") as file:
            content = join(_documents(file, path)) if path.suffix == ".jsonl" else file.read(MAX_CHARACTERS)
    except UnicodeDecodeError as error:
        raise ComeError(f"{path} is not UTF-8 text.", "Convert it to UTF-8, or name another file.") from error
    except OSError as error:
        raise ComeError(f"{path} cannot be read: {error.strerror}.", "Check that you may read it.") from error
    if "\0" in content:
        raise ComeError(f"{path} is not text: it holds NUL characters.", "Name a file of plain text.")
    return content


def _documents(lines: Iterable[str], path: Path) -> Iterator[str]:
    """The field "text" of each line that is not blank."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ComeError(f"Line {number} of {path} is not JSON.", "Write one JSON object a line.") from error
        value = row.get("text") if isinstance(row, dict) else None
        if not isinstance(value, str) or not _is_unicode(value):
            raise ComeError(
                f'Line {number} of {path} has no field "text" that holds a string.',
                'Write lines like {"text": "..."}.',
            )
        yield value


def _is_unicode(value: str) -> bool:
    """False where JSON escapes left half of a surrogate pair, which no tokenizer takes."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _sha256(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
