"""Step 6: merge, measure again, merge again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import streamlit as st

from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import lesson_loop, window_costs
from app.learn import frame
from app.learn.angle import degrees, ordinal
from app.learn.material import Material
from app.state import session, widget_state
from come.report.metrics import number

TITLE = "Merge, measure, merge again"
IDEA = (
    "A merge changes what the layers above are given: CoMe measures anew each time, CoMe-Joint merges **one window**, "
    "by its cost."
)
_STYLE = """<style>
.come-both { border-collapse: collapse; font-size: 1rem; line-height: 1.55; font-variant-numeric: tabular-nums; }
.come-both :is(th, td) { padding: 0 2rem 0 0; text-align: right; font-weight: 400; }
.come-both th:first-child { text-align: left; }
.come-both thead { font-size: .8rem; opacity: .78; }
.come-both td { font-weight: 600; white-space: nowrap; }
@media (max-width: 640px) { .come-both { font-size: .875rem; } .come-both :is(th, td) { padding-right: .7rem; } }
</style>"""
HEIGHT = 250  # pixels: what is said below the chart stands above Back and Next on a small screen, too
WAYS = {"loop": "CoMe's loop", "window": "One window"}


def draw(of: Material) -> None:
    """The example's run, merge by merge; or what merging windows at once was measured to cost."""
    sizes = sorted({cost.last - cost.first + 1 for cost in of.costs})
    if not sizes:
        _loop(of)
        return
    widget_state.keep_among("merge-way", list(WAYS), "loop")
    if session.value("merge-way") == "loop":
        _loop(of, ways=True)
    else:
        _one_window(of, sizes)


def _way() -> None:
    st.segmented_control("Way", list(WAYS), key="merge-way", required=True, format_func=WAYS.__getitem__)


def _one_window(of: Material, sizes: list[int]) -> None:
    """What merging each window costs, and how far one long merge goes beside many short ones."""
    widget_state.keep_among("merge-size", sizes, sizes[-1])
    frame.todo(
        "Change the layers in a window: how often does removing cost less than merging (the diamond within its bar)?"
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        _way()
        st.segmented_control("Layers in a window", sizes, key="merge-size", required=True)
    size = session.value("merge-size")
    costs = [cost for cost in of.costs if cost.last - cost.first + 1 == size]
    cheapest = min(costs, key=lambda cost: cost.merged)
    frame.chart(
        window_costs.costs(costs, of.layers, selected=cheapest.window).update_layout(height=HEIGHT),
        key="lesson-costs",
        alt=f"What merging each window of {size} layers costs",
        tallest=300,
    )
    if rows := compared(of):
        st.html(_STYLE + _table(rows, of.layers, of.run.config.n_tokens))
    turns = degrees(of, size)
    ranks = np.argsort(np.argsort([turns[cost.first] for cost in costs], kind="stable"), kind="stable")
    rank = int(ranks[costs.index(cheapest)]) + 1
    tied = f"{turns[cheapest.first] / 180:.3f}" == f"{min(turns[cost.first] for cost in costs) / 180:.3f}"
    place, lesson = f"{ordinal(rank)} of {len(costs)}", "turning least is not costing least"
    if tied:
        place = f"{'' if rank == 1 else 'practically tied for '}the first of {len(costs)}"
        lesson = "here the same window turns least and costs least"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"By the angle the cheapest is {place}: {lesson}.", width="content")
        how_sure(
            "Cost: the divergence after CoMe-Joint's merge. Step 5 told the loss that CoMe's concatenation adds: pairs "
            "may come in another order there. Measured on tokens that no merge is fitted on, of the example's text and "
            "of several kinds beside it. A merge here is CoMe-Joint's: channels of all its layers are chosen together, "
            f"output maps are moved. The perplexities are from before any recovery. {_calibrated(of)}",
            key="sure-of-costs",
        )


def compared(of: Material) -> dict[str, dict[int, str]]:
    """Perplexities of both ways, by the layers left that the example has both of, the fewest last."""
    both = sorted(set(of.perplexities) & set(of.one_window), reverse=True)
    ways = {"loop": of.perplexities, "window": of.one_window} if both else {}
    return {
        WAYS[way]: {layers: f"{found[layers][0]:.1f} ± {found[layers][1]:.1f}" for layers in both}
        for way, found in ways.items()
    }


def _table(rows: dict[str, dict[int, str]], layers: int, tokens: int) -> str:
    """One way beneath the other, a column a size; `layers`: of the original; `tokens`: that were pruned on."""
    sizes = "".join(f"<th scope='col'>{left} layers</th>" for left in next(iter(rows.values())))
    spans = ", ".join(f"{layers - left + 1}" for left in next(iter(rows.values())))
    names = WAYS | {"window": f"One window of {spans} layers"}
    shown = {names[way]: rows[title] for way, title in WAYS.items()}
    body = "".join(
        f"<tr><th scope='row'>{way}</th>{''.join(f'<td>{value}</td>' for value in found.values())}</tr>"
        for way, found in shown.items()
    )
    head = f"<tr><th scope='col'>Perplexity, pruned on {tokens:,} tokens</th>{sizes}</tr>"
    return f"<table class='come-both'><thead>{head}</thead><tbody>{body}</tbody></table>"


def _loop(of: Material, ways: bool = False) -> None:
    last = len(of.history)
    widget_state.keep_among("merge-step", list(range(last + 1)), 0)
    at = session.value("merge-step")
    if at == last and ways:
        frame.todo("Now look at *One window*: the other way to as few layers.")
    else:
        others = " Pale: windows with a merged layer, which CoMe leaves alone." if at else ""
        frame.todo(f"Take one merge after the other. Red: the lowest skip block influence (SBI).{others}")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        if ways:
            _way()
        st.select_slider("Merges done", list(range(last + 1)), key="merge-step", width=220)
        st.button("One back", key="merge-back", disabled=at == 0, on_click=session.put, args=("merge-step", at - 1))
        st.button(
            "Merge",
            key="merge-next",
            icon=":material/merge:",
            disabled=at == last,
            on_click=session.put,
            args=("merge-step", at + 1),
        )
    groups = groups_after(of, at)
    step = of.history[at] if at < last else None
    influence = np.asarray(step["skip_influence"] if step else [])
    window = tuple(step["window"]) if step else None
    if step is None and of.by_merge:
        frame.chart(
            lesson_loop.ended([value for value, _ in of.by_merge], _beside(of), groups, of.layers, came_to(of)),
            key="lesson-loop",
            alt=came_to(of),
        )
    else:
        frame.chart(
            lesson_loop.loop(influence, groups, window, of.layers, finding(influence, window, groups, at)),
            key="lesson-loop",
            alt=f"Skip block influence of every window after {at} merges, and the layers as they are then",
        )
    whole = sum(len(group) == 1 for group in groups)
    shown = {"Layers left": f"{len(groups)}", "Of them never merged": f"{whole}"}
    if step:
        shown["Ratio of the next merge"] = " : ".join(f"{share:.0%}" for share in step["ratio"])
    perplexity = of.by_merge[at] if of.by_merge else of.perplexities.get(len(groups))
    shown["Perplexity"] = f"{number(perplexity[0])} ± {number(perplexity[1])}" if perplexity else "not measured here"
    widgets.facts_grid(shown)
    known = ", ".join(f"{layers} layers" for layers in sorted(of.perplexities, reverse=True))
    where = "after every merge" if of.by_merge else f"at {known}"
    how_sure(
        f"The example's real run to {of.layers - last} layers. A tile is a layer, in the colours of the originals "
        f"that it is made of. Perplexity was measured {where}, on {_evaluation_tokens(of):,} tokens, ± 1 standard "
        f"error, before any recovery. {_calibrated(of)}",
        key="sure-of-loop",
    )


def _beside(of: Material) -> dict[int, float]:
    """The perplexities of one merge each, as far down as the loop went."""
    least = of.layers - len(of.history)
    return {layers: of.one_window[layers][0] for layers in sorted(of.one_window, reverse=True) if layers >= least}


def came_to(of: Material) -> str:
    """What the loop came to, and how late most of that came, in one sentence."""
    values = [value for value, _ in of.by_merge]
    merges, rise = len(values) - 1, values[-1] - values[0]
    ends = f"perplexity {number(values[0])} to {number(values[-1])}"
    said = f"After {merges} merges {of.layers - merges} layers are left: {ends}"
    late = next((count for count in range(1, merges + 1) if values[-1] - values[-1 - count] >= rise / 2), merges)
    if rise <= 0 or late > merges / 2:
        return said
    return f"{said}, half of the rise by the last {'merge' if late == 1 else f'{late} merges'}"


def groups_after(of: Material, merges: int) -> list[list[int]]:
    """The original layers that each layer stands for after so many merges."""
    groups = [[layer] for layer in range(of.layers)]
    for step in of.history[:merges]:
        first, last = step["window"]
        groups[first : last + 1] = [[layer for group in groups[first : last + 1] for layer in group]]
    return groups


def finding(influence: np.ndarray, window: Sequence[int] | None, groups: Sequence[Sequence[int]], merges: int) -> str:
    """Which window is next and why, in one sentence."""
    if window is None:
        sizes = sorted({len(group) for group in groups if len(group) > 1})
        made = sum(len(group) > 1 for group in groups)
        of = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else "two" if sizes == [2] else "".join(map(str, sizes))
        return f"After {merges} merges {len(groups)} layers are left; {made} of them are merges of {of}"
    first, last = window
    both = lesson_loop.originals(groups[first : last + 1])
    words = f"Merge {merges + 1} takes the original's layers {both}: SBI {influence[first]:.4f} is the lowest"
    fresh = [at for at in range(len(influence)) if all(len(groups[layer]) == 1 for layer in (at, at + 1))]
    if int(np.argmin(influence)) == first:
        return words
    return f"{words} among layers not merged yet" if first in fresh else f"{words} that may be taken"


def _calibrated(of: Material) -> str:
    """What the runs read before they pruned, by which other runs come to other numbers."""
    return f"Pruned on {of.run.config.n_tokens:,} tokens: a run that reads more or fewer comes to other numbers."


def _evaluation_tokens(of: Material) -> int:
    return int(of.run.config.evaluation_tokens)
