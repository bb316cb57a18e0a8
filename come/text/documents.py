"""Documents become one text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Split = Literal["calibration", "evaluation"]  # the parts of a text, which do not overlap

MAX_CHARACTERS = 8_000_000  # about two million tokens, ten seconds of tokenizing: far more than any run draws
_BETWEEN = "\n\n"


def join(documents: Iterable[str]) -> str:
    """Documents with an empty line between them, read no further than ``MAX_CHARACTERS``."""
    parts: list[str] = []
    room = MAX_CHARACTERS
    for document in documents:
        parts.append(document[:room])
        room -= len(document) + len(_BETWEEN)
        if room <= 0:
            break
    return _BETWEEN.join(parts)
