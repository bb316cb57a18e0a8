"""How far a run is, and how long it will still take: by what was foreseen of each stage, and what it told since.

The bar moves by the time that passes, over the time that was thought to be left when the run last told something: so
it never goes back, comes to the end when the run does, and waits where a run tells nothing for long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any

from come.request import RunConfig
from come.runs.state import State

ENOUGH = 0.03  # the share of a stage after which its speed says something
UNDER_WAY = 0.99  # the most that is said of a run that has not ended
TRUST = 0.1  # how much of what was foreseen is held against what was seen
OVERDUE = 0.15  # of the time that a stage has taken: it is never said to be over before it is
SILENT = 0.1  # of what is left, from where on the bar waits for news: it goes on to twice that at most
STILL = 0.6  # of what was left at the last news: while a run tells nothing, no less is said
ALIKE = 0.2  # how far a bar and a time may be apart and still say the same
SLOWEST, FASTEST = 20.0, 0.2  # how far a machine may be from what was foreseen of it
# The stages as events name them -> the stages of an estimate that they stand for.
FORESEEN = {
    "convert": ("convert",),
    "load": ("start", "load"),
    "text": ("text",),
    "measure": ("measure",),
    "compress": ("compress",),
    "recover": ("recover",),
    "speed": ("speed",),
    "save": ("save",),
}
OF_BOTH = ("evaluate", "accuracy", "probe")  # each model's is a stage: the count begins anew with the second
AT_ONCE = ("convert", "load", "text")  # these end with their first whole step

Seconds = Mapping[str, float]
"""By stage, under the names of an estimate."""


@dataclass(frozen=True)
class Outlook:
    """How far something is.

    Attributes:
        share: 0 to 1 of the time that it takes; 1 only where it has ended.
        elapsed: seconds so far.
        left: seconds that it will still take; None where nothing tells.
        pace: how many times as long it takes as was foreseen.
        foreseen: seconds that all of it was foreseen to take; 0 where nothing tells.
    """

    share: float
    elapsed: float
    left: float | None
    pace: float = 1.0
    foreseen: float = 0.0

    @property
    def overdue(self) -> bool:
        """Whether more is left than its share lets one think: it went slower than was thought."""
        if self.left is None:
            return False
        return self.share - self.elapsed / max(self.elapsed + self.left, 1e-9) > ALIKE


def outlook(
    config: RunConfig,
    state: State,
    events: Sequence[Mapping[str, Any]],
    foreseen: Seconds,
    now: float,
    pace: float = 1.0,
) -> Outlook:
    """How far one run is.

    Args:
        config, state, events: the run's.
        foreseen: what its stages were foreseen to take; empty where that is not known.
        now: unix seconds.
        pace: how many times as long as foreseen runs took that were done before it, beside the same work.
    """
    stages = _stages(config, foreseen)
    total = sum(stages.values())
    if not state.active:
        taken = max((state.finished or now) - (state.started or now), 0.0)
        return Outlook(1.0, taken, 0.0, foreseen=total)
    if state.status == "queued" or state.started is None:
        return Outlook(0.0, 0.0, pace * total if foreseen else None, pace, total)
    course = _Course({stage: pace * seconds for stage, seconds in stages.items()}, state.started)
    for event in events:
        if event["time"] >= state.started:  # a run that goes on begins anew
            course.take(event)
    elapsed = max(now - state.started, 0.0)
    if not foreseen:
        return Outlook(min((course.here + course.done) / len(stages), UNDER_WAY), elapsed, None)
    left, slower = course.left(now)
    return Outlook(min(course.share(now), UNDER_WAY), elapsed, left, pace * slower, total)


def together(each: Sequence[Outlook], waiting: Sequence[bool]) -> Outlook:
    """How far several runs are that one process does one after the other.

    Args:
        each: how far each is; each is as much of the whole as was foreseen of it.
        waiting: which have not begun.
    """
    at_work = [one for one, waits in zip(each, waiting, strict=True) if 0 < one.share < 1 and not waits]
    elapsed = sum(one.elapsed for one in each)
    foreseen = sum(one.foreseen for one in each)
    weights = [one.foreseen for one in each] if all(one.foreseen for one in each) else [1.0] * len(each)
    share = sum(weight * one.share for weight, one in zip(weights, each, strict=True)) / max(sum(weights), 1e-9)
    if all(one.share == 1 for one in each):
        return Outlook(1.0, elapsed, 0.0, foreseen=foreseen)
    if any(one.left is None for one in each):
        return Outlook(min(share, UNDER_WAY), elapsed, None, foreseen=foreseen)
    pace = (at_work or [one for one in each if one.share < 1])[0].pace
    left = sum(
        (pace / one.pace if waits else 1.0) * (one.left or 0.0) for one, waits in zip(each, waiting, strict=True)
    )
    return Outlook(min(share, UNDER_WAY), elapsed, left, pace, foreseen)


class _Course:
    """Where a run is, by its events so far.

    Attributes:
        here: the place of the stage that it is in.
        done: how much of that stage it has told; 0 where it counts anew now and then.
    """

    def __init__(self, stages: Seconds, started: float) -> None:
        self._names, self._expected = list(stages), list(stages.values())
        self._begun = self._entered = self._told = started
        self._anew = False
        self.here, self.done = 0, 0.0
        self._share, self._thought = 0.0, self._estimate(started)[0]

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in the next event."""
        now = max(event["time"], self._told)
        self._share = self.share(now)
        self._told = now
        stage = _stage(event)
        if stage == "convert" and stage not in self._names:  # nothing foresees it any more
            self._begun = self._entered = now
        after = next((at for at in range(self.here, len(self._names)) if _is(self._names[at], stage)), self.here)
        if after > self.here:
            self._enter(after, now)
        if _is(self._names[self.here], stage):
            self._count(event)
            if stage in AT_ONCE and self.done >= 1 and self.here + 1 < len(self._names):
                self._enter(self.here + 1, now)  # the next one is silent at first
        self._thought = self._estimate(now)[0]

    def share(self, now: float) -> float:
        """How far the bar is."""
        return self._share + (1 - self._share) * self._passed(now)

    def left(self, now: float) -> tuple[float, float]:
        """Seconds that it will still take, and how many times as long it takes as was foreseen."""
        left, pace = self._estimate(now)
        return max(left, self._thought * STILL), pace  # where the bar waits, so does the time

    def _passed(self, now: float) -> float:
        """How much has passed of what was left when it last told something."""
        passed = max(now - self._told, 0.0) / max(self._thought, 1e-9)
        return passed if passed <= SILENT else SILENT * (2 - exp(1 - passed / SILENT))

    def _estimate(self, now: float) -> tuple[float, float]:
        here = self._expected[self.here]
        spent = max(now - self._entered, 0.0)
        before, usual = self._entered - self._begun, sum(self._expected[: self.here])
        trusted = TRUST * sum(self._expected)  # a little that went slower or faster says little of the rest
        pace = _bounded((before + trusted) / (usual + trusted)) if usual > 0 else 1.0
        left = max(pace * here - spent, 0.0)
        if self.done >= ENOUGH:
            by_pace = max((self._told - self._entered) / self.done * (1 - self.done) - (now - self._told), 0.0)
            # That it is slow is believed at once: a bar that was too careful catches up, one that was too hasty waits.
            weight = sqrt(self.done) if by_pace < left else 1.0
            left = weight * by_pace + (1 - weight) * left
        left = max(left, OVERDUE * spent)
        if self.done >= ENOUGH or spent > pace * here:
            pace = _bounded((before + spent + left + trusted) / max(usual + here + trusted, 1e-9))
        return left + pace * sum(self._expected[self.here + 1 :]), pace

    def _enter(self, here: int, now: float) -> None:
        for skipped in range(self.here + 1, here):  # what was known already took nothing, and tells of no speed
            self._expected[skipped] = 0.0
        self.here, self._entered, self.done, self._anew = here, now, 0.0, False

    def _count(self, event: Mapping[str, Any]) -> None:
        if event["of"] > 0:
            done = min(max(event["step"] / event["of"], 0.0), 1.0)
            self._anew = self._anew or done < self.done
            self.done = 0.0 if self._anew else done


def _stages(config: RunConfig, foreseen: Seconds) -> dict[str, float]:
    """The stages that a run goes through, in order, with the seconds foreseen for each."""
    asked = config.evaluate if config.kind == "compress" else ()
    recovers = bool(config.recover)
    both = {stage: (f"{stage} original", f"{stage} pruned") for stage in OF_BOTH}
    unrecovered = ("evaluate original", "evaluate unrecovered")
    order = [
        *(["convert"] if "convert" in foreseen else []),
        "load",
        "text",
        "measure" if config.kind == "analyze" else "compress",
        *(unrecovered if recovers and "ppl" in asked else ()),
        *(["recover"] if recovers else []),
        *(both["evaluate"][recovers:] if "ppl" in asked else ()),
        *(both["accuracy"] if "acc" in asked else ()),
        *(both["probe"] if "probe" in asked else ()),
        *(["speed"] if "speed" in asked else []),
        *(["save"] if config.kind == "compress" and config.keep_model else []),
    ]
    return {stage: sum(foreseen.get(name, 0.0) for name in FORESEEN.get(stage, (stage,))) for stage in order}


def _stage(event: Mapping[str, Any]) -> str:
    """The stage that an event is of, and of which model."""
    stage = str(event["stage"])
    if stage not in OF_BOTH:
        return stage
    return f"{stage} {'pruned' if 'pruned' in str(event.get('message', '')) else 'original'}"


def _is(stage: str, told: str) -> bool:
    return told == ("evaluate pruned" if stage == "evaluate unrecovered" else stage)


def _bounded(pace: float) -> float:
    return min(max(pace, FASTEST), SLOWEST)
