"""How a recovery goes, from a run's events: the losses of each way and layer, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

KINDS = {"train_loss": "training", "held_out_loss": "held out"}


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
