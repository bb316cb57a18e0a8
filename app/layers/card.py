"""The layers page's card of one window: how alike, what it costs, what it would keep; into the plan and out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from statistics import median
from typing import Any

import streamlit as st

from app import formats, presenter
from app.components import widgets
from app.components.how_sure import how_sure
from app.components.packing import NOT_YOURS, begin
from app.figures import layers as figures
from app.layers import edited
from app.state import cached, foreseen, session, visit
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.windows import Window, WindowCost
from come.runs import Run
from come.serving import limits
from come.serving import window_costs as background
from come.text import short_name

LONGEST = 32  # layers a window, at most
MOST_NAMED = 2  # windows that are tied with one

FORMULAS = r"""
$H^{(l)}$ is the hidden state that enters layer $l$; $H^{(L)}$ leaves the model.

**Block influence**, how far one layer turns the state:

$$\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$

**Skip block influence**, how far $m$ layers together turn it:

$$\mathrm{SBI}_{l,m} = \operatorname{mean}_t \arccos\bigl(\cos(H^{(l)}_t, H^{(l+m)}_t)\bigr) / \pi$$

CoMe merges the window of lowest SBI, and takes from each of its layers a share in proportion to BI. CoMe-Joint goes by
the **cost of merging**: how far predictions move from the original's when it makes the window one layer, as
Kullback-Leibler (KL) divergence in nats per token.
"""


def draw(
    run: Run,
    measured: Measurement,
    facts: Facts,
    is_example: bool,
    planned: list[Window],
    stability: dict[str, Any],
) -> None:
    """The card of the open window.

    Args:
        run: the analysis, and ``measured``: what it found.
        facts: of its model.
        is_example: it is the shipped one, beside which nothing is measured.
        planned: windows of the plan.
        stability: what ``Measurement.window_stability`` says.
    """
    st.header("One window", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        beyond = session.value("last") - session.value("first")
        st.number_input(
            "First layer", 0, facts.layers - 2, key="first", width=92, on_change=_move, args=(beyond, facts.layers - 1)
        )
        st.number_input("Last layer", 1, facts.layers - 1, key="last", width=92)
        first, last = session.value("first"), session.value("last")
        problem = _problem(first, last, facts.layers)
        _add(first, last, planned, facts.layers)
    known = cached.window_costs(run)
    others = not problem and bool(set(planned) - {(first, last)})
    only = partial(_take_only, facts.layers) if others else None
    standing = f"{_standing(first, last, planned, known)}{_of_come(measured, first, last)}"
    edited.draw("card", "" if problem else standing, only)
    if problem:
        st.warning(problem)
        return
    try:
        found, method, guessed = foreseen.of_window(
            session.draft(), (first, last), measured, facts, session.choice().seed, visit.costs()
        )
    except ComeError as error:
        st.warning(formats.sentence(str(error)))
        return
    cost = next((each for each in known if each.window == (first, last)), None)
    widgets.facts_grid(
        {
            "Cost of merging": f"{cost.merged:.3f} nats" if cost else "not measured",
            "Parameters saved": formats.human_count((last - first) * facts.layer_parameters),
        }
    )
    if cost is not None:
        st.caption(_of_cost(cost, known))
    else:
        _to_measure(run, is_example, (first, last), known)
    widgets.chart(
        figures.puzzle(
            first,
            found.ratio,
            found.kv_groups,
            found.channels,
            facts.layers,
            f"{method.title}, an estimate" if guessed else method.title,
            named=figures.NAMED_NARROW if presenter.is_on() else figures.NAMED,
        ),
        key="puzzle",
        alt="What the merged layer keeps of each of its sources",
    )
    shares = (
        f"{method.title} solves in the run for which channels stay: the chart is a guess by their sensitivity, as it "
        "is on the plan page."
        if guessed
        else f"{method.title}'s shares follow BI, unless your plan has ratios of its own."
    )
    more = f"{_numbers(measured, first, last, found.skip_influence)}\n\n{shares}\n{FORMULAS}"
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.info("More numbers", more, key="formula-influence")
        how_sure(_stability(run, measured, stability), key="sure-of-windows")
        if is_example:
            st.caption(":material/bookmark: Shipped example", width="content")


def _of_cost(cost: WindowCost, known: Sequence[WindowCost]) -> str:
    """What the cost is, and how it stands among those of windows as long."""
    alike = [each.merged for each in known if each.last - each.first == cost.last - cost.first]
    lower = sum(merged < cost.merged for merged in alike)
    count = f"{lower or 'none'} cost{'s' if lower < 2 else ''} less"
    among = f" Of {len(alike)} windows of {cost.last - cost.first + 1} layers, {count}." if len(alike) > 1 else ""
    return f"How far predictions move from the original's, per token.{among}"


def _numbers(measured: Measurement, first: int, last: int, skip: float) -> str:
    """What else was measured of a window (markdown)."""
    alike = {"Cosine similarity": "cosine", "Centred kernel alignment (CKA)": "cka"}
    rows = {
        name: f"{matrix[first, last + 1]:.4f}"
        for name, kind in alike.items()
        if (matrix := measured.similarity.get(kind)) is not None
    }
    rows["Skip block influence (SBI)"] = "not measured" if math.isnan(skip) else f"{skip:.4f}"
    each = ", ".join(f"{measured.block_influence[layer]:.4f}" for layer in range(first, last + 1))
    rows["Block influence (BI) of each layer"] = each
    return "\n".join(f"- {name}: **{value}**" for name, value in rows.items())


def _to_measure(run: Run, is_example: bool, window: Window, known: Sequence[WindowCost]) -> None:
    """Where what merging a window costs gets measured."""
    if is_example:
        widgets.next_step("model", "Measure it: analyse the model yourself")
        return
    working = background.measuring(run).status == "working"
    about = f", about {formats.about(median(each.seconds for each in known))}" if known else ""
    st.button(
        "Measuring windows…" if working else f"Measure it{about}",
        key="measure-window",
        icon=":material/timer:",
        on_click=begin,
        args=(background.start, run, (), limits.current().window_seconds, window),
        disabled=working or not session.owns(run),
        help="In the background; you may leave this page." if session.owns(run) else NOT_YOURS,
    )


def _move(beyond: int, last: int) -> None:
    """The window goes along with its first layer, as long as it was, up to the last there is."""
    if beyond > 0:
        session.put("last", min(session.value("first") + beyond, last))


def _problem(first: int, last: int, layers: int) -> str:
    """Why these are no window of a model of so many layers, and what to do; "" where they are one."""
    most = min(LONGEST, layers)
    if last <= first:
        return f"The last layer must come after the first: set it to {first + 1} or more, or the first to a lower one."
    if last - first + 1 > most:
        return f"A window holds 2 to {most} layers: set its last layer to {first + most - 1} at most."
    return ""


def _add(first: int, last: int, planned: list[Window], layers: int) -> None:
    """Put the window into the plan, or take it out: as wide either way, so that nothing beside it moves."""
    inside = (first, last) in planned
    automatic = session.draft().windows is None and bool(planned)
    replaced = visit.replaced(first, last, planned)
    st.button(
        "Remove" if inside else replaced or "Add to plan",
        key="change-plan",
        on_click=_change,
        args=(planned, layers),
        type="secondary" if inside or replaced else "primary",
        icon=f":material/{'remove' if inside else 'swap_horiz' if replaced else 'add'}:",
        disabled=bool(_problem(first, last, layers)),
        help="Makes your automatic plan one by hand; its other windows stay." if automatic else None,
        width=190 if presenter.is_on() else 144,
    )


def _take_only(layers: int) -> None:
    """The button that leaves no other window in the plan."""

    def take() -> None:
        first, last = session.value("first"), session.value("last")
        if not _problem(first, last, layers):
            visit.take_only(first, last)

    st.button(
        "Take only this",
        key="take-only",
        on_click=take,
        type="tertiary",
        help="The plan becomes this window alone.",
    )


def _change(planned: list[Window], layers: int) -> None:
    """Take the window that the fields name by now into the plan, or out of it."""
    first, last = session.value("first"), session.value("last")
    if not _problem(first, last, layers):
        (visit.remove_window if (first, last) in planned else visit.add_window)(first, last)


def _standing(first: int, last: int, planned: list[Window], known: Sequence[WindowCost]) -> str:
    """What the plan has to do with the window; of a window that it would replace, what that costs."""
    if (first, last) in planned:
        return f"In {session.plan_named()}."
    overlapped = visit.overlapping(first, last, planned)
    name = session.plan_named()
    costs = {f"{each.first}–{each.last}": each.merged for each in known}
    cost = f", which costs {costs[overlapped]:.3f} nats" if overlapped in costs else ""
    return f"Overlaps {overlapped} of {name}{cost}." if overlapped else f"Not in {name}."


def _of_come(measured: Measurement, first: int, last: int) -> str:
    """That a window is the one which CoMe would begin with, and how clearly."""
    skip, halves = measured.skip_influence.numpy(), measured.skip_influence_halves.numpy()
    longer = len(measured.block_influence) - len(skip)
    if (first, last) != (lowest := int(skip.argmin()), lowest + longer):
        return ""
    tied = [f"{each}–{each + longer}" for each in figures.tied(skip, halves)]
    count = f"{len(tied)} others" if len(tied) > MOST_NAMED else " and ".join(tied)
    level = f", practically tied with {count}" if tied else ""
    return f" CoMe would merge it first: lowest skip block influence (SBI){level}."


def _stability(run: Run, measured: Measurement, stability: dict[str, Any]) -> str:
    """How far what is shown depends on which half of the text was read (markdown)."""
    (a, b), (c, d) = stability["best_halves"]
    if (a, b) == (c, d):
        agreement = f"Both halves of the text choose layers **{a} to {b}**."
    else:
        agreement = f"One half of the text chooses layers **{a} to {b}**, the other **{c} to {d}**."
    jaccard = measured.channel_stability()
    same = 2 * jaccard / (1 + jaccard)  # both sets are equally large, so this is the share of either
    weakest = int(same.argmin())
    return (
        f"Means over {measured.n_tokens:,} tokens of {formats.literal(short_name(run.config.text))}, by this program. "
        f"{agreement} Over all windows the halves' rankings agree with a rank correlation (Spearman's ρ) of "
        f"**{stability['rank_correlation']:.3f}**.\n\n"
        "If half of each layer's FFN channels were kept, both halves of the text would choose the same "
        f"**{float(same.mean()):.0%}** of them on average, least in layer {weakest} ({float(same[weakest]):.0%})."
    )
