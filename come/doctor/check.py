"""What is found of one thing."""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass

State = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """What was found of one thing.

    Attributes:
        name: of what was looked at.
        state: "ok"; "warn", something will be slow or missing; "bad", something will fail.
        found: what is there, in a few words.
        advice: what to do about it, a sentence; "" where nothing is wrong.
    """

    name: str
    state: State
    found: str
    advice: str = ""
