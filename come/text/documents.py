"""Documents become one text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Split = Literal["calibration", "evaluation"]  # the parts of a text, which do not overlap

MAX_CHARACTERS = 8_000_000  # about two million tokens, ten seconds of tokenizing: far more than any run draws
_BETWEEN = "\n\n"


@dataclass(frozen=True)
class Content:
    """What a text holds.

    Attributes:
        characters: all of it, cut at ``MAX_CHARACTERS``.
        form: of a file, in which form it was read, in words such as "messages, through the model's chat template".
    """

    characters: str
    form: str = ""


def join(documents: Iterable[str], between: str = _BETWEEN) -> str:
    """Documents with an empty line between them, read no further than ``MAX_CHARACTERS``."""
    parts: list[str] = []
    room = MAX_CHARACTERS
    for document in documents:
        parts.append(document[:room])
        room -= len(document) + len(between)
        if room <= 0:
            break
    return between.join(parts)
