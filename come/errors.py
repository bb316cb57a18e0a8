"""The one kind of error that a user can cause."""

from __future__ import annotations


class ComeError(Exception):
    """Something the user can put right: one sentence of what is wrong, one of what to do.

    The page shows both, the command line prints them on one line and exits with status 2.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what, self.hint = what, hint
        super().__init__(f"{what} {hint}".strip())

    def __reduce__(self) -> tuple[type[ComeError], tuple[str, str]]:
        return ComeError, (self.what, self.hint)
