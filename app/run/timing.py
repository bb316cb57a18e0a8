"""How long a run has taken and will take, from its state and its events."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from come.runs.state import State

ENOUGH = 0.04  # the share of a stage after which its speed says something


def share(state: State) -> float:
    """How much of the present stage is done, 0 to 1."""
    return min(max(state.step / state.of, 0.0), 1.0) if state.of else 0.0


def elapsed(state: State, now: float) -> float:
    """Seconds since the run began, or since it was queued where it waits."""
    return max(now - (state.started or state.created or now), 0.0)


def left_in_stage(events: Sequence[dict[str, Any]], now: float) -> float | None:
    """Seconds that the present stage will still take at its own pace; None where it is too early to say."""
    if not events or not events[-1].get("of"):
        return None
    stage = [events[-1]]
    for event in reversed(events[:-1]):
        # A stage may come twice (the perplexity of two models): a step back begins it anew.
        if event["stage"] != stage[-1]["stage"] or event["step"] > stage[-1]["step"]:
            break
        stage.append(event)
    first, last = stage[-1], stage[0]
    done = (last["step"] - first["step"]) / last["of"]
    if done < ENOUGH or last["step"] >= last["of"]:
        return None
    pace = (last["time"] - first["time"]) / done
    return max(pace * (1 - last["step"] / last["of"]) - (now - last["time"]), 0.0)
