"""How far a run is, and how long it will still take: by what was foreseen of each stage, and what it told since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any

from come.request import RunConfig
from come.runs.state import State

ENOUGH = 0.04  # the share of a stage after which its speed says something
UNDER_WAY = 0.99  # the most that is said of a run that has not ended
TRUST = 0.25  # how much of what was foreseen is held against what was seen
OVERDUE = 0.15  # of the time that a stage has taken: it is never said to be over before it is
SLOWEST, FASTEST = 20.0, 0.2  # how far a machine may be from what was foreseen of it
# The stages as events name them -> the stages of an estimate that they stand for.
FORESEEN = {
    "convert": ("convert",),
    "load": ("start", "load"),
    "text": ("text",),
    "measure": ("measure",),
    "compress": ("compress",),
    "evaluate": ("evaluate original", "evaluate pruned"),
    "recover": ("recover",),
    "accuracy": ("accuracy original", "accuracy pruned"),
    "probe": ("probe original", "probe pruned"),
    "speed": ("speed",),
    "save": ("save",),
}
AT_ONCE = ("convert", "load", "text")  # these end with their first whole step
PACED = ("measure", "compress", "recover")  # these tell how far they are, once from 0 to 1

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
    """

    share: float
    elapsed: float
    left: float | None
    pace: float = 1.0


def outlook(
    config: RunConfig, state: State, events: Sequence[Mapping[str, Any]], foreseen: Seconds, now: float
) -> Outlook:
    """How far one run is.

    Args:
        config, state, events: the run's.
        foreseen: what its stages were foreseen to take; empty where that is not known.
        now: unix seconds.
    """
    if not state.active:
        taken = max((state.finished or now) - (state.started or now), 0.0)
        return Outlook(1.0, taken, 0.0)
    stages = _stages(config, foreseen)
    if state.status == "queued" or state.started is None:
        return Outlook(0.0, 0.0, sum(stages.values()) if foreseen else None)
    here, begun, entered, since = _position(list(stages), events, state.started)
    expected = list(stages.values())
    spent, elapsed = max(now - entered, 0.0), max(now - state.started, 0.0)
    done = _done(since) if list(stages)[here] in PACED else 0.0
    if not foreseen:
        return Outlook(min((here + done) / len(stages), UNDER_WAY), elapsed, None)
    before, usual = entered - begun, sum(expected[:here])
    trusted = TRUST * sum(expected)  # a little that went slower or faster says little of the rest
    pace = _bounded((before + trusted) / (usual + trusted)) if usual > 0 else 1.0
    usual_here = pace * expected[here]
    left = max(usual_here - spent, 0.0)
    if done >= ENOUGH:
        told = since[-1]["time"]
        by_pace = max((told - entered) / done * (1 - done) - (now - told), 0.0)
        weight = sqrt(done) if spent < usual_here else 1.0
        left = weight * by_pace + (1 - weight) * left
    left = max(left, OVERDUE * spent)
    if done >= ENOUGH or spent > usual_here:
        pace = _bounded((before + spent + left + trusted) / (usual + expected[here] + trusted))
    left += pace * sum(expected[here + 1 :])
    return Outlook(min(elapsed / max(elapsed + left, 1e-9), UNDER_WAY), elapsed, left, pace)


def together(each: Sequence[Outlook], waiting: Sequence[bool]) -> Outlook:
    """How far several runs are that one process does one after the other.

    Args:
        each: how far each is.
        waiting: which have not begun.
    """
    pace = next((one.pace for one, waits in zip(each, waiting, strict=True) if 0 < one.share < 1 and not waits), 1.0)
    elapsed = sum(one.elapsed for one in each)
    if any(one.left is None for one in each):
        return Outlook(min(sum(one.share for one in each) / max(len(each), 1), UNDER_WAY), elapsed, None)
    left = sum((pace if waits else 1.0) * (one.left or 0.0) for one, waits in zip(each, waiting, strict=True))
    if all(one.share == 1 for one in each):
        return Outlook(1.0, elapsed, 0.0)
    return Outlook(min(elapsed / max(elapsed + left, 1e-9), UNDER_WAY), elapsed, left, pace)


def _stages(config: RunConfig, foreseen: Seconds) -> dict[str, float]:
    """The stages that a run goes through, as events name them, in order, with the seconds foreseen for each."""
    asked = config.evaluate if config.kind == "compress" else ()
    belongs = {
        "convert": "convert" in foreseen,
        "load": True,
        "text": True,
        "measure": config.kind == "analyze",
        "compress": config.kind == "compress",
        "first": bool(config.recover) and "ppl" in asked,
        "recover": bool(config.recover),
        "evaluate": "ppl" in asked,
        "accuracy": "acc" in asked,
        "probe": "probe" in asked,
        "speed": "speed" in asked,
        "save": config.kind == "compress" and config.keep_model,
    }
    found = {}
    for stage, is_there in belongs.items():
        if is_there:
            names = ("evaluate original", "evaluate unrecovered") if stage == "first" else FORESEEN[stage]
            if stage == "evaluate" and "first" in found:
                names = ("evaluate pruned",)
            found[stage] = sum(foreseen.get(name, 0.0) for name in names)
    return found


def _position(
    stages: Sequence[str], events: Sequence[Mapping[str, Any]], started: float
) -> tuple[int, float, float, list[Mapping[str, Any]]]:
    """Which of its stages a run is in, when the first one and this one began, and what was told since.

    A run that goes on begins anew, and so does one whose model was converted meanwhile, which nothing foresees then.
    """
    here, begun, entered, since = 0, started, started, list[Mapping[str, Any]]()
    for event in events:
        if event["time"] < started:
            continue
        stage = event["stage"]
        if stage == "convert" and stage not in stages:
            begun = entered = event["time"]
        after = next((place for place in range(here, len(stages)) if _is(stages[place], stage)), None)
        if after is not None and after > here:
            here, entered, since = after, event["time"], []
        if stage == stages[here]:
            since.append(event)
            if stage in AT_ONCE and event["step"] >= event["of"] > 0 and here + 1 < len(stages):
                here, entered, since = here + 1, event["time"], []  # the next one is silent at first
    return here, begun, entered, since


def _is(stage: str, told: str) -> bool:
    return told == ("evaluate" if stage == "first" else stage)


def _done(since: Sequence[Mapping[str, Any]]) -> float:
    """How much of a stage is done by its last event; 0 where it counts anew now and then."""
    shares: list[float] = [event["step"] / event["of"] for event in since if event["of"] > 0]
    if not shares or any(later < earlier for earlier, later in pairwise(shares)):
        return 0.0
    return min(max(shares[-1], 0.0), 1.0)


def _bounded(pace: float) -> float:
    return min(max(pace, FASTEST), SLOWEST)
