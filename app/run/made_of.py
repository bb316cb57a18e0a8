"""The run page's picture of a result: the original's layers over the pruned model's, as the plan page draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app.components import widgets
from app.figures import plan as figures
from app.state import cached
from come.errors import ComeError
from come.models import Facts
from come.pruning import kept_units
from come.runs import Run

ALT = "The layers before and after; Inspect has the numbers."


@dataclass(frozen=True)
class Made:
    """What a run made of a model: the layers of the pruned one, each as what it keeps of its sources."""

    facts: Facts
    final: Sequence[Sequence[figures.Piece]]

    def picture(self) -> go.Figure:
        """The original's layers over these."""
        facts = self.facts
        return figures.strips(facts.layers, facts.intermediate_size, facts.num_key_value_heads, self.final)


def draw(run: Run) -> None:
    """The picture, where there is one."""
    made = of(run)
    if made is not None:
        widgets.chart(made.picture(), key="made-of", alt=ALT)


def of(run: Run) -> Made | None:
    """What a run made; None without a plan, or where its plan keeps no whole number of units of each layer."""
    try:
        plan, facts = run.plan(), cached.facts(run.config.model)
        if plan is None or plan.base.layers != facts.layers:
            return None
        final = _pieces(kept_units.of_plan(plan, facts), facts)
    except ComeError:  # of a model that is not here any more, say
        return None
    return Made(facts, final) if final else None


def _pieces(kept: kept_units.KeptByLayer, facts: Facts) -> Sequence[Sequence[figures.Piece]]:
    """The layers of the pruned model, each as what it keeps of its sources; nothing where some are averages."""
    channels, groups = list(range(facts.intermediate_size)), list(range(facts.num_key_value_heads))
    whole = kept_units.KeptUnits(channels, groups)
    final = []
    for group in kept.groups:
        units = [kept.layers.get(layer, whole) for layer in group]
        if sum(len(each.channels) for each in units) > len(channels):
            return []
        pieces = [
            figures.Piece(layer, len(of.channels), len(of.kv_groups)) for layer, of in zip(group, units, strict=True)
        ]
        final.append(pieces)
    return final
