"""The one kind of error that a user can cause, and what errors of other libraries say."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_HEADINGS = ("Class validation error", "Validation error", "Error(s) in loading")  # what is wrong stands below these


def reason_of(error: BaseException, longest: int = 160) -> str:
    """What another library's error says, on one line without a full stop: its first line that says something."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if not line.startswith(_HEADINGS)), type(error).__name__)
    return told[:longest].rstrip(". :")


def is_panic(error: BaseException) -> bool:
    """Whether what is written in Rust, tokenizers among it, gave up: it does so in a kind that is no ``Exception``."""
    return type(error).__name__ == "PanicException"


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "", *, most: int = 2, cutoff: float = 0.6) -> str:
    """The hint after an unknown name: at most so many of the known ones near it, or what else to say."""
    near = get_close_matches(name, list(known), most, cutoff)
    return f"Did you mean {' or '.join(near)}?" if near else otherwise


class ComeError(Exception):
    """Something the user can put right: one sentence of what is wrong, one of what to do.

    The page shows both, the command line prints them on one line and exits with status 2.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} {hint}".strip())

    def __reduce__(self) -> tuple[type[ComeError], tuple[str, str]]:
        return ComeError, (self.what, self.hint)
