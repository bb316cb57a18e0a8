"""Progress, as plain events: the command line, the runs and the page each draw them in their own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened: ``step`` of ``of`` in ``stage``, in words, with the numbers that go with it."""

    stage: str
    step: int
    of: int
    message: str = ""
    values: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON-ready values."""
        return asdict(self)


OnProgress = Callable[[Event], None] | None


def emit(on_progress: OnProgress, stage: str, step: int, of: int, message: str = "", **values: Any) -> None:
    """Report one event to whoever listens; nobody listening is fine."""
    if on_progress is not None:
        on_progress(Event(stage, step, of, message, values))


def as_stage(on_progress: OnProgress, stage: str) -> OnProgress:
    """A listener that is told of everything as if it belonged to one stage."""
    if on_progress is None:
        return None
    return lambda event: emit(on_progress, stage, event.step, event.of, event.message, **event.values)
