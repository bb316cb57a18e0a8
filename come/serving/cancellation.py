"""Giving up on an answer that nobody waits for any more."""

from __future__ import annotations

from collections.abc import Callable


class Cancelled(Exception):
    """A newer question took the place of this one, or whoever asked has gone."""


Cancel = Callable[[], bool]
"""Whether to give up, asked between layers, batches and tokens."""


def never() -> bool:
    """Never give up."""
    return False


def stop_if(cancelled: Cancel) -> None:
    """Give up, if that is wanted.

    Raises:
        Cancelled: it is.
    """
    if cancelled():
        raise Cancelled
