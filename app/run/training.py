"""How a recovery goes, from a run's events: the losses of each way and layer, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from come.plan.plan import Plan

KINDS = {"train_loss": "training", "held_out_loss": "held out"}
NOTE = "Recovery, "  # so begin the plan's notes of what a recovery did


def curves(events: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A line a loss that was told: which way and layer it is of ("part"), which kind, at which step."""
    rows, way = [], ""
    for event in events:
        if event["stage"] != "recover":
            continue
        values = event.get("values") or {}
        way = str(values.get("way", way))
        if "step" not in values:
            continue
        part = f"{way}, layer {values['layer']}" if isinstance(values.get("layer"), int) else way
        rows += [
            {"part": part, "kind": words, "step": int(values["step"]), "loss": float(values[name])}
            for name, words in KINDS.items()
            if values.get(name) is not None
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


def outcome(plan: Plan | None) -> list[str]:
    """What each way of recovery came to, as the plan notes it."""
    return [note.removeprefix(NOTE) for note in plan.notes if note.startswith(NOTE)] if plan else []
