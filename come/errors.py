"""The one kind of error that a user can cause."""

from __future__ import annotations

from come.redact import shown


class ComeError(Exception):
    """Something the user can put right: one sentence of what is wrong, one of what to do.

    The page shows both, the command line prints them on one line and exits with status 2. In a public demonstration
    neither names a folder of the server.
    """

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = shown(what)
        self.hint = shown(hint)
        super().__init__(f"{self.what} {self.hint}".strip())

    def __reduce__(self) -> tuple[type[ComeError], tuple[str, str]]:
        return ComeError, (self.what, self.hint)
