"""What a draft comes to, told before it runs: how many layers it leaves, what would go, which units stay."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

import come
from app.state.choice import DEFAULT_SPARSITY, Draft, by_hand, plan_fields
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning import kept_units
from come.pruning.compress import check_request
from come.pruning.compress import forecast as foretold
from come.pruning.draft import DraftWindow
from come.pruning.forecast import Forecast
from come.pruning.kept_units import KeptByLayer
from come.pruning.method import Method
from come.pruning.windows import Window, WindowCost


def layers_left(draft: Draft, facts: Facts) -> int:
    """How many layers a draft leaves, whether or not it can run.

    Raises:
        ComeError: the sparsity is not reached by any number of layers.
    """
    if draft.windows is not None:
        return facts.layers - sum(last - first for first, last in draft.windows) - len(draft.dropped)
    if draft.target_layers is not None:
        return draft.target_layers
    return facts.layers_for_sparsity(DEFAULT_SPARSITY if draft.sparsity is None else draft.sparsity)


def target_layers(draft: Draft, facts: Facts) -> int:
    """The same, after all checks that need no weights.

    Raises:
        ComeError: the draft contradicts itself or is out of range; one sentence.
    """
    fields = plan_fields(draft)
    return check_request(facts, draft.method, fields["target_layers"], fields["sparsity"], fields["options"])


def forecast(
    draft: Draft, measured: Measurement | None, facts: Facts, seed: int = 0, costs: Sequence[WindowCost] = ()
) -> Forecast | None:
    """What the plan would do; None where only a run tells, or a measurement that is not there.

    `seed` is a run's, for methods that draw by chance; `costs` is what merging windows was measured to cost.

    Raises:
        ComeError: the draft contradicts itself or is out of range; one sentence.
    """
    if draft.is_empty:
        return Forecast()
    layers = target_layers(draft, facts)
    seeded = {"seed": seed} if "seed" in come.methods()[draft.method].defaults() else {}
    return foretold(draft.method, seeded | plan_fields(draft)["options"], layers, facts, measured, costs)


def of_window(
    draft: Draft,
    window: Window,
    measured: Measurement,
    facts: Facts,
    seed: int = 0,
    costs: Sequence[WindowCost] = (),
) -> tuple[DraftWindow, Method, bool]:
    """What one window would keep: as the plan has it, or as it would once it is added to the plan.

    `seed` and `costs` are as `forecast` takes them.

    Returns:
        (what is kept, the method that says so, whether that is a guess, since the method fits its units in the run).

    Raises:
        ComeError: the window cannot become one layer; one sentence.
    """
    alone = by_hand(draft, [window])
    for plan in (draft, alone):
        try:
            found = forecast(plan, measured, facts, seed, costs)
        except ComeError:
            if plan is alone:
                raise
            continue  # the plan page and the strip say what is wrong with it
        for each in found.windows if found else []:
            if (each.first, each.last) == window:
                return each, come.methods()[plan.method], found is not None and found.fitted
    raise ComeError(f"What layers {window[0]} to {window[1]} would keep, only a run tells.")


def settled(draft: Draft, measured: Measurement | None, facts: Facts, costs: Sequence[WindowCost]) -> Draft:
    """The draft as it is run: with the windows of an automatic one that were measured to cost least, if they were.

    A run that was given a target alone would try fewer windows than are measured.
    """
    if draft.windows is not None or not costs:
        return draft
    try:
        found = forecast(draft, measured, facts, costs=costs)
    except ComeError:
        return draft  # the plan page and the strip say what is wrong with it
    if found is None or found.by != "cost":
        return draft
    return by_hand(draft, [(window.first, window.last) for window in found.windows])


# The strip and the page below it ask the same.
@st.cache_resource(
    max_entries=32,
    show_spinner=False,
    hash_funcs={
        Measurement: lambda each: (id(each), float(each.block_influence.sum()), float(each.mlp_sensitivity.sum())),
        Facts: lambda each: (each.source, each.layers, each.parameters),
        Draft: repr,
        WindowCost: lambda each: (each.first, each.last, each.merged),
    },
)
def units_kept(
    draft: Draft, measured: Measurement | None, facts: Facts, seed: int, costs: tuple[WindowCost, ...] = ()
) -> KeptByLayer | None:
    """Which units would stay; None where that cannot be told. Raises what `forecast` raises."""
    found = forecast(draft, measured, facts, seed, costs)
    return None if found is None else kept_units.of_windows(found.windows, facts, found.removed)
