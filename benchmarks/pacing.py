"""How many steps of a training fit a time: a few are taken and timed, and what else there is to do is counted."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from come.events import Event

Clock = Callable[[], float]
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "cpu": time.process_time}
"""Seconds as they pass, or of the processor: on a machine that others use too, these are what compares (one thread)."""
TAKEN = 3  # steps that are taken of each training to time it; behind the last of them is a check
MOST = 1 << 20  # steps


@dataclass(frozen=True)
class Pace:
    """What a recovery takes.

    Attributes:
        fixed: seconds for all that does not depend on the steps.
        step, check: seconds for a step of each training that it consists of, and for a check of what is held out.
        writing: seconds for the text that is written for so many steps (``round``) at a time; 0 where none is.
    """

    fixed: float
    step: float
    check: float
    writing: float = 0.0
    round: int = 1

    def seconds(self, steps: int, check_every: int) -> float:
        """How long it takes with so many steps."""
        checks, rounds = math.ceil(steps / check_every), math.ceil(steps / self.round)
        return self.fixed + steps * self.step + checks * self.check + rounds * self.writing

    def steps(self, seconds: float, check_every: int) -> int:
        """How many steps fit so many seconds, at least one."""
        return max(1, bisect_right(range(MOST), seconds, key=lambda steps: self.seconds(steps, check_every)) - 1)


@dataclass
class Stopwatch:
    """Times of a recovery's steps: told of its events, and asked whether to stop."""

    clock: Clock = time.perf_counter
    taken: dict[Any, list[float]] = field(default_factory=dict)
    written: list[float] = field(default_factory=list)
    last: tuple[Any, int] | None = None

    def __post_init__(self) -> None:
        """Begin."""
        self.began = self.clock()

    def __call__(self, event: Event) -> None:
        """Note an event."""
        now = self.clock()
        if "train_loss" in event.values:
            self.last = event.values["layer"], event.values["step"]
            self.taken.setdefault(event.values["layer"], []).append(now)
        elif "layer" in event.values and event.message.startswith("Sampling"):
            self.written.append(now)

    def enough(self) -> bool:
        """Whether a training was timed; the next one that asks has steps of its own."""
        done = self.last is not None and self.last[1] >= TAKEN
        if done:
            self.last = None
        return done

    def pace(self, round_steps: int = 1) -> Pace:
        """What was found, of trainings that were stopped by ``enough`` and checked every ``TAKEN`` steps."""
        whole, step, check = self.clock() - self.began, 0.0, 0.0
        for times in self.taken.values():
            a_step, with_check = times[-2] - times[-3], times[-1] - times[-2]
            step, check = step + a_step, check + max(0.0, with_check - a_step)
        writing = self.written[-1] - self.written[0] if self.written else 0.0
        fixed = max(0.0, whole - TAKEN * step - check - writing)
        return Pace(fixed, step, check, writing, round_steps)


def timed(work: Callable[[], Any], clock: Clock = time.perf_counter) -> tuple[Any, float]:
    """What a call gives, and how long it takes."""
    began = clock()
    return work(), clock() - began
