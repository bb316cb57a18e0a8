"""What the plan page says of a plan before it runs: its size, what each layer keeps, where earlier runs lie."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd
import streamlit as st

import come
import come.runs
from app import example_runs, formats
from app.components import widgets, window_costs
from app.components.how_sure import how_sure
from app.figures import compare as compare_figures
from app.figures import plan as plan_figures
from app.plan.whatif.ask import Predicted
from app.state import foreseen, session, visit
from app.state.choice import DEFAULT_SPARSITY, Draft
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.draft import DraftWindow
from come.pruning.forecast import Forecast
from come.pruning.windows import WindowCost
from come.report import comparison
from come.report.measured import Result, Value
from come.report.metrics import PERPLEXITY
from come.serving.whatif.answer import Answer

SBI = "Skip block influence (SBI)"

HOW = r"""
**Which layers.** The window of lowest skip block influence goes first: how far $m$ layers turn the hidden state,
$$\mathrm{SBI}_{l,m} = \operatorname{mean}_t \arccos\bigl(\cos(H^{(l)}_t, H^{(l+m)}_t)\bigr) / \pi$$

**How much of each.** In proportion to block influence to the power $p$ (1 by default), $r_l \propto \mathrm{BI}_l^p$,
$$\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$

**Which channels.** Those of highest sensitivity; attention by whole key/value groups, so that every query head
keeps its own.
$$S_j = \operatorname{mean}_t |x_{tj}| \cdot \textstyle\sum_i |W_{ij}|$$
"""

HOW_FITTED = r"""
**Which layers.** Where it was measured what merging windows of that many layers costs, the cheapest of them, if that is
clear: by more than two standard errors, on this text and on others. Else the cheapest of those that a run would try.
The run is told to merge it. Until that is measured, those whose block influence is least in sum, but for one layer's:
$$\sum_l \mathrm{BI}_l - \max_l \mathrm{BI}_l,\qquad
\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$
The run then fits several and takes the one whose model is nearest to the original on tokens that nothing is fitted on.

**Which channels.** The first layer's attention stays: it reads what it read before. All FFN channels of the window are
run behind it; what later layers would have read is predicted linearly from that. Those that are needed to give what the
window gave are found by leaving out one after the other, each time the one that a least-squares fit misses least.

**What is moved.** The output maps are solved for, the input maps have the prediction in them. So a kept channel is no
copy: it is where a new one began.
"""


def sizes(facts: Facts) -> None:
    """Layers, parameters and bytes, before and after."""
    layers = foreseen.layers_left(session.draft(), facts)
    count = facts.parameters_at(layers)
    rows = {
        "Layers": (str(facts.layers), str(layers)),
        "Parameters": (formats.human_count(facts.parameters), formats.human_count(count)),
        "In 32 bits": tuple(formats.human_bytes(facts.bytes_at(n)) for n in (facts.layers, layers)),
        "In 16 bits": tuple(formats.human_bytes(facts.bytes_at(n, "bfloat16")) for n in (facts.layers, layers)),
    }
    removed = f"{1 - count / facts.parameters:.0%} of the parameters removed"
    cells = "".join(
        f"<div><span>{name}</span><b>{after}</b><span>of {before}</span></div>"
        for name, (before, after) in rows.items()
    )
    st.html(f"<div class='come-facts' aria-label='{removed}'>{cells}</div>")


def ribbons(measured: Measurement | None, facts: Facts, is_example: bool, found: Forecast | None) -> None:
    """The layers before and after; a way to an analysis where that is not known."""
    method = come.methods()[session.draft().method]
    if method.forecast is None:
        st.info(f"What {method.title} prunes is decided in the run.")
        return
    if found is None:
        widgets.empty_state(
            "What each layer would keep is not known yet",
            "The model has not been analysed on this text. The plan can run without it.",
            "model",
            "Analyse the model",
        )
        return
    widgets.chart(
        plan_figures.foreseen(found, facts),
        key="strips",
        alt="The layers before and after; the numbers are in a table.",
    )
    if words := _taken_instead(facts, found):
        st.info(words, icon=":material/task_alt:")
    begun = f"Suggested: {DEFAULT_SPARSITY:.0%} of the parameters gone. " if session.draft() == Draft() else ""
    if words := begun + chosen_by(found, visit.costs()):
        st.caption(words)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        guess = " An estimate: the run solves for which channels stay." if found.fitted and found.doubt else ""
        st.caption(f"Tall: feed-forward channels. Low: key/value groups.{guess}", width="content")
        how_sure(_how_sure(measured, is_example, found, by_text=bool(method.needs)), key="how-sure-strips")


def _taken_instead(facts: Facts, found: Forecast) -> str:
    """What the finished run of this plan merged, where that is not what is drawn; "" elsewhere."""
    taken = visit.windows_of_run(facts)
    if not taken or taken == [(window.first, window.last) for window in found.windows]:
        return ""
    named = ", ".join(f"{first} to {last}" for first, last in taken)
    return f"The run of this plan is done, and took other windows than are drawn here as likely: layers {named}."


def kept(facts: Facts, found: Forecast | None) -> None:
    """The share of each layer that stays."""
    if come.methods()[session.draft().method].forecast is None or found is None:
        return
    if found.windows:
        with st.expander("What each layer keeps"):
            st.dataframe(
                _table(found.windows, found.removed, facts),
                hide_index=True,
                height="content",
                column_config={SBI: st.column_config.NumberColumn(format="%.4f")},
            )
            widgets.info("How this is decided", HOW_FITTED if found.fitted else HOW)
    elif found.removed:
        st.markdown(f"Removed whole: layer{'' if len(found.removed) == 1 else 's'} {ranges(found.removed)}.")


def chosen_by(found: Forecast, costs: Sequence[WindowCost]) -> str:
    """What an automatic plan's windows were chosen by, in one sentence (markdown); empty where there was no choice."""
    if not found.by:
        return ""
    if found.by == "influence":
        return f"**By block influence**, {until_measured(found)}."
    sizes = _sizes(found)
    of = f"windows of {' and '.join(map(str, sizes))} layers"
    merged = {cost.window: cost.merged for cost in costs}
    asked = sum(cost.last - cost.first + 1 in sizes for cost in costs)
    ends = [(window.first, window.last) for window in found.windows]
    names = " and ".join(f"{first}–{last}" for first, last in ends)
    cost = " and ".join(f"{merged[each]:.3f}" for each in ends)
    told = f"of {asked} {of}, none costs clearly less than {names} ({cost} nats per token on {window_costs.SCORED_ON})"
    return f"**By measured costs**: {told}."


def until_measured(found: Forecast | None) -> str:
    """How long an automatic plan goes by block influence, as half a sentence; empty where it does not."""
    if found is None or found.by != "influence":
        return ""
    return f"until merging windows of {' and '.join(map(str, _sizes(found)))} layers is measured"


def _sizes(found: Forecast) -> list[int]:
    """How many layers its windows have, ascending."""
    return sorted({window.last - window.first + 1 for window in found.windows})


def ranges(layers: Sequence[int]) -> str:
    """Ascending numbers in few words: [3, 4, 5, 9] -> "3–5, 9"."""
    blocks: list[list[int]] = []
    for layer in layers:
        if blocks and layer == blocks[-1][-1] + 1:
            blocks[-1].append(layer)
        else:
            blocks.append([layer])
    return ", ".join(str(block[0]) if len(block) == 1 else f"{block[0]}–{block[-1]}" for block in blocks)


def _how_sure(measured: Measurement | None, is_example: bool, found: Forecast, *, by_text: bool) -> str:
    where = "this analysis"
    if is_example and measured is not None:
        where = f"the shipped example's analysis of {measured.n_tokens:,} tokens"
    if found.doubt:
        return f"An estimate from {where}: {found.doubt}."
    if found.fitted:
        return "Exact: what this plan's run kept."
    if found.windows:
        return f"Exact for {where}: windows by hand are all measured on the original model."
    return f"Exact for {where}: whole layers go." if by_text and found.removed else "Exact: whole layers go."


def _table(windows: Sequence[DraftWindow], dropped: Sequence[int], facts: Facts) -> pd.DataFrame:
    """What stays of each layer that the plan touches, a row a layer, the lowest first."""
    rows = {
        window.first + i: (f"{window.first}–{window.last}", f"{share:.0%}", channels, groups, window.skip_influence)
        for window in windows
        for i, (share, channels, groups) in enumerate(zip(window.ratio, window.channels, window.kv_groups, strict=True))
    }
    rows |= dict.fromkeys(dropped, ("dropped", "", 0, 0, math.nan))
    return pd.DataFrame(
        [(layer, *rows[layer]) for layer in sorted(rows)],
        columns=[
            "Layer",
            "Window",
            "Share",
            f"Feed-forward (FFN) channels of {facts.intermediate_size:,}",
            f"Key/value (KV) groups of {facts.num_key_value_heads}",
            SBI,
        ],
    ).dropna(axis="columns", how="all")


def runs_so_far(facts: Facts, predicted: Predicted | None) -> None:
    """The plan among the runs already made on this model, where there are any: a dot, or only its size."""
    own = comparison.of_model(come.runs.list_runs(), facts.source)
    found = own or comparison.of_model(example_runs.runs(), facts.source)
    if not found:
        return
    results = [item.pruned for item in found if item.pruned]
    original = next((item.original for item in found if item.original), None)
    titles = {name: method.title for name, method in come.methods().items()}
    count = facts.parameters_at(foreseen.layers_left(session.draft(), facts))
    # What its run measured is among the runs already.
    same = predicted is not None and not predicted.run and _on_the_same_tokens(predicted, original)
    value = _perplexity(predicted.answer) if same and predicted is not None else None
    figure = compare_figures.perplexity_figure(results, original, titles, "parameters", plan=count, predicted=value)
    title = "What runs on this model have cost so far" if own else "What the shipped runs of this model cost"
    figure.update_layout(title_text=title, height=320)
    widgets.chart(figure, key="sizes", alt="Perplexity of earlier runs against parameters, with this plan's")
    marked = "The diamond is this plan, as predicted" if same else "The line marks this plan's size"
    about = f"{formats.literal(found[0].title)}, held-out part. {marked}."
    how_sure(f"{about} Bars: one standard error, or the spread over seeds.", key="how-sure-sizes")


def _perplexity(answer: Answer) -> Value:
    """With its standard error, as far as there is one."""
    error = answer.perplexity_stderr
    return Value(answer.perplexity, error if math.isfinite(error) else None)


def _on_the_same_tokens(predicted: Predicted, original: Result | None) -> bool:
    """Whether runs were judged on the prediction's tokens: the original then has the same perplexity on both."""
    known = None if original is None else original.values.get(PERPLEXITY.key)
    return known is not None and math.isclose(known.value, predicted.original.perplexity, rel_tol=1e-3)
