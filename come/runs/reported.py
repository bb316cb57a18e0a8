"""What a run reported, read from its events: its messages and numbers, how fast it goes, the losses of a recovery."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd

from come.plan.plan import RECOVERED, Plan
from come.request import Asked

KINDS = {"train_loss": "training", "held_out_loss": "held out"}
# Values that events carry -> (what the line shows, its axis).
LIVE = {
    "perplexity": ("Perplexity so far", "perplexity"),
    "skip_influence": ("Skip block influence of each merged window", "SBI"),
    "score": ("Score of each merged window", "KL or loss"),
    "loss": ("Loss", "loss"),
}


@dataclass(frozen=True)
class Series:
    """One line of the live chart: `xs` counts steps."""

    title: str
    x: str
    y: str
    xs: list[int]
    ys: list[float]


def messages(events: Sequence[dict[str, Any]]) -> list[str]:
    """What a run reported, one line a message, each with its time."""
    lines: list[str] = []
    last = ""
    for event in events:
        words = event.get("message") or event["stage"]
        if words != last:
            lines.append(f"{datetime.fromtimestamp(event['time']):%H:%M:%S}  {words}")
            last = words
    return lines


def texts_read(results: Mapping[str, Any]) -> list[str]:
    """In which form each file of text was read, a sentence each, as results.json tells it."""
    used = [told for use in ("calibration", "recovery", "evaluation") if isinstance(told := results.get(use), dict)]
    return list(dict.fromkeys(f"{told.get('text')} was read as {told['form']}." for told in used if told.get("form")))


def not_probed(results: Mapping[str, Any]) -> list[str]:
    """Which tasks the probe left out, a sentence each."""
    return [f"{task} was not probed: {why}." for task, why in (results.get("not_probed") or {}).items()]


def asked_for(asked: Asked | None, results: Mapping[str, Any]) -> list[str]:
    """What a run's layers were chosen for; and where its speed was measured, how far off the expectation was."""
    if asked is None:
        return []
    found = [asked.sentence]
    speeds = [(results.get(which) or {}).get("speed") or {} for which in ("original", "pruned")]
    before, after = (speed.get("decode_tokens_per_second") for speed in speeds)
    if asked.expected and before and after:
        measured = after / before
        off = asked.expected / measured - 1
        found.append(
            f"Expected to write {asked.expected:.2f} times as fast, measured {measured:.2f} times: "
            f"the expectation is {abs(off):.1%} too {'high' if off > 0 else 'low'}."
        )
    return found


def tail(log: str, lines: int = 400) -> str:
    """The last lines of a log."""
    # A progress bar redraws its line after a carriage return: its last state is enough.
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in log.split("\n")[-lines:])


def series(events: Sequence[dict[str, Any]]) -> list[Series]:
    """The numbers that events carry, one line a kind; fewer than three points are no line."""
    found: dict[str, list[float]] = {}
    for event in events:
        for name, value in (event.get("values") or {}).items():
            if name in LIVE and isinstance(value, int | float):
                found.setdefault(name, []).append(float(value))
    return [
        Series(LIVE[name][0], "step", LIVE[name][1], list(range(1, len(values) + 1)), values)
        for name, values in found.items()
        if len(values) > 2
    ]


# --- recovery ----------------------------------------------------------------------------------------


def curves(events: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line a loss that was told: which way and layer it is of ("part"), which kind, at which step."""
    rows, way = [], ""
    for event in events:
        if event["stage"] != "recover":
            continue
        values = event.get("values") or {}
        way = str(values.get("way", way))
        if not isinstance(values.get("step"), int):
            continue
        part = f"{way}, layer {values['layer']}" if isinstance(values.get("layer"), int) else way
        rows += [
            {"part": part, "kind": words, "step": values["step"], "loss": float(values[name])}
            for name, words in KINDS.items()
            if isinstance(values.get(name), int | float)
        ]
    return pd.DataFrame(rows, columns=["part", "kind", "step", "loss"])


def parts(table: pd.DataFrame) -> list[str]:
    """The ways and layers that have curves, in the order in which they were trained."""
    return list(dict.fromkeys(table["part"]))


def of_part(table: pd.DataFrame, part: str) -> dict[str, pd.Series]:
    """The losses of one way and layer by kind ("training", "held out") and step; of a step told twice, the last."""
    mine = table[table["part"] == part]
    return {
        kind: mine[mine["kind"] == kind].drop_duplicates("step", keep="last").set_index("step")["loss"].sort_index()
        for kind in KINDS.values()
        if (mine["kind"] == kind).any()
    }


def live(losses: dict[str, pd.Series]) -> pd.DataFrame:
    """The same as columns for a line chart; held-out tokens are asked now and then, between that it goes straight."""
    return pd.DataFrame(losses).interpolate(method="index", limit_area="inside")


def held_out(losses: dict[str, pd.Series]) -> str:
    """The newest held-out loss, and the lowest, in a sentence; "" before there is one."""
    held = losses.get("held out")
    if held is None:
        return ""
    newest = f"Held-out loss {held.iloc[-1]:.4g} after step {held.index[-1]}"
    return f"{newest}, the lowest {held.min():.4g} after step {held.idxmin()}." if len(held) > 1 else f"{newest}."


DIVERGED = "diverged at step"  # in what a training says of itself


def outcome(plan: Plan | None) -> list[str]:
    """What each way of recovery came to, as the plan notes it."""
    return [note.removeprefix(RECOVERED) for note in plan.notes if note.startswith(RECOVERED)] if plan else []
