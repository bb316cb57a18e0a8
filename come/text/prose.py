"""Paragraphs of natural language, told from code, tables and markup; and what stands in two places, found again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Document = list[str]  # of paragraphs

RUN = 13  # words in a row that two texts must not share: the usual measure of contamination
FEWEST_WORDS = 18
LETTERS, ASCII = 0.86, 0.98  # the least share of letters and spaces, and of ASCII, in a paragraph of English prose
FUNCTION_SHARE = 0.2  # of the words, those that carry the grammar, at the least: lists of names have fewer

_BLANK = re.compile(r"\n[ \t]*\n")
_WORD = re.compile(r"[^\W\d_]+")
_FUNCTION_WORD = re.compile(
    r"\b(?:an?|and|are|as|at|be|but|by|can|do|for|from|has|have|if|in|is|its?|may|no|not|of|on|or|such|that|the|their|"
    r"there|these|they|this|to|was|we|when|which|will|with|your?)\b",
    re.IGNORECASE,
)
_NOT_PROSE = re.compile(r"[|{}<>]|://|>>>|^\s*(?:\.\. |#|[$@]|\d+\.\d)|^(?: {4}|\t)", re.MULTILINE)
_PLAIN = (
    (re.compile(r"\[?!\[[^\]]*\]\([^)]*\)(?:\]\([^)]*\))?"), ""),  # a picture, with or without a link
    (re.compile(r"\[([^\]]+)\](?:\([^)]*\)|\[[^\]]*\])"), r"\1"),  # a Markdown link
    (re.compile(r"`([^`<]+?)\s*<[^>`]+>`__?"), r"\1"),  # a link in reStructuredText
    (re.compile(r":[\w:]+:`~?([^`]+)`"), r"`\1`"),  # a role
    (re.compile(r"``([^`]+)``"), r"`\1`"),
)


def paragraphs(text: str) -> Iterator[str]:
    """What stands between empty lines, with line ends of one kind."""
    for piece in _BLANK.split(text.replace("\r\n", "\n")):
        if stripped := piece.strip("\n").rstrip():
            yield stripped


def prose(text: str) -> Iterator[str]:
    """The paragraphs of natural language in a text of Markdown or reStructuredText, without links and roles."""
    for pattern, replacement in _PLAIN:
        text = pattern.sub(replacement, text)
    return (paragraph for paragraph in paragraphs(text) if is_prose(paragraph))


def is_prose(paragraph: str) -> bool:
    """Whether a paragraph consists of sentences in English: words such as "the" and "of", and little but letters."""
    if len(paragraph.encode("ascii", "ignore")) < ASCII * len(paragraph) or _NOT_PROSE.search(paragraph):
        return False
    words = _WORD.findall(paragraph)
    if len(words) < FEWEST_WORDS or paragraph[-1] not in ".:;!?)\"'":
        return False
    letters = sum(map(len, words)) + sum(map(paragraph.count, " \n"))
    common = len(_FUNCTION_WORD.findall(paragraph))
    return letters >= LETTERS * len(paragraph) and common >= FUNCTION_SHARE * len(words)


def runs_of_words(text: str) -> set[str]:
    """Every ``RUN`` words in a row of a text, whatever stands between them; of a shorter text, all its words."""
    words = _words(text)
    if len(words) <= RUN:
        return {" ".join(words)}
    return {" ".join(words[start : start + RUN]) for start in range(len(words) - RUN + 1)}


def once(documents: Iterable[Document]) -> Iterator[Document]:
    """Documents, as lists of paragraphs, without those of which most has been there before."""
    seen: set[str] = set()
    for document in documents:
        kept = []
        for paragraph in document:
            runs = runs_of_words(paragraph)
            if 2 * len(runs & seen) < len(runs):
                kept.append(paragraph)
            seen |= runs
        if kept:
            yield kept


def apart_from(documents: Iterable[Document], others: set[str]) -> Iterator[Document]:
    """Documents without the paragraphs that share ``RUN`` words in a row with others, with what stands before them."""
    before = ""  # the last words of what is kept
    for document in documents:
        kept = []
        for paragraph in document:
            text = f"{before} {paragraph}"
            if others.isdisjoint(runs_of_words(text)):
                kept.append(paragraph)
                before = " ".join(_words(text)[1 - RUN :])
        if kept:
            yield kept


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())
