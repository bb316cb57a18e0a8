"""The compare page's choices: which model and text, what to draw against what, of which runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app import presenter
from app.components import run_labels
from app.state import widget_state
from come.report import metrics, sweeps
from come.report.comparison import Entry
from come.report.measured import Result
from come.report.metrics import SIZES, Metric, Size
from come.runs import Run

EVERY = "All runs"  # of whatever sweep
PICTURES = ("svg", "png")
MAIN = presenter.first("compare")  # the verdict and the paired chart: the curve's bars are each model's own
STYLE = f"""<style>
/* On a phone and before a room, the chart comes before what changes it. */
@media (max-width: 640px) {{ .st-key-{MAIN} > :has(> .st-key-compare-controls) {{ order: 2; }} }}
.stApp:has(.st-key-presenter) .st-key-{MAIN} > :has(> .st-key-compare-controls) {{ order: 2; }}
</style>"""


def group(groups: dict[tuple[Any, ...], list[Entry]]) -> tuple[Any, ...]:
    """Which model and text: a choice only where there are several."""
    keys = list(groups)
    if len(keys) == 1:
        return keys[0]
    titles = run_labels.distinct({f"{place}": groups[key][0].title for place, key in enumerate(keys, 1)})
    by_title = dict(zip(titles.values(), keys, strict=True))
    chosen = widget_state.keep_among("comparison", list(by_title), next(iter(by_title)))
    st.selectbox("Model and text", list(by_title), key="comparison")
    return by_title[chosen]


def metric(entries: list[Entry]) -> Metric:
    """What to judge the runs by."""
    drawn = [m for m in metrics.measured([item.pruned for item in entries if item.pruned]) if m.drawn]
    titles = {each.key: each.title for each in drawn}
    widget_state.keep_among("metric", list(titles), next(iter(titles)))
    return metrics.metric(st.selectbox("Metric", list(titles), key="metric", format_func=titles.__getitem__, width=180))


def size() -> Size:
    """What the metric is drawn against, as `against` has it."""
    return SIZES[widget_state.keep_among("against", list(SIZES), "layers")]


def against() -> None:
    """The choice of what the metric is drawn against."""
    st.segmented_control(
        "Against",
        list(SIZES),
        key="against",
        required=True,
        format_func=lambda name: SIZES[name].title,
        label_visibility="collapsed",
    )


def kind() -> str:
    """What the camera above a chart saves, as `pictures` has it."""
    return str(widget_state.keep_among("figure-format", list(PICTURES), PICTURES[0]))


def pictures() -> None:
    """The choice of what the camera above a chart saves."""
    st.segmented_control(
        "Charts",
        PICTURES,
        required=True,
        key="figure-format",
        format_func=str.upper,
        help="What the camera above a chart saves it as, made in your browser.",
    )


def after_recovery(results: list[Result]) -> bool:
    """Whether to judge the models after recovery: a choice where some were recovered and some were not."""
    if len({result.recovered for result in results}) < 2:
        return False
    names = ["Before recovery", "After recovery"]
    widget_state.keep_among("judged-when", names, names[0])
    chosen = st.segmented_control("Judged", names, key="judged-when", required=True)
    return bool(chosen == names[1])


def chosen(entries: list[Entry], key: tuple[Any, ...]) -> list[Entry]:
    """The runs that are left of the entries by a choice; nothing chosen in a list means all."""
    place = str(hash(key) & 0xFFFF)
    names = run_labels.of_runs(item.run for item in entries)
    with st.popover("Choose runs", icon=":material/filter_list:"):
        lines = sorted({item.pruned.series for item in entries if item.pruned})
        layers = sorted({item.pruned.layers for item in entries if item.pruned and item.pruned.layers}, reverse=True)
        ids = sorted({item.sweep for item in entries if item.sweep})
        wanted = st.multiselect("Methods", lines, key=f"methods-{place}", placeholder="All methods")
        left = st.multiselect("Layers left", layers, key=f"layers-{place}", placeholder="All sizes")
        of = [EVERY, *ids]
        widget_state.keep_among("sweep", of, EVERY)
        called = _sweeps([item.run for item in entries])
        sweep = st.selectbox("Sweep", of, key="sweep", format_func=lambda id: called.get(id, id)) if ids else EVERY
        without = st.multiselect(
            "Leave out", list(names), key=f"without-{place}", format_func=names.__getitem__, placeholder="No run"
        )
    return [
        item
        for item in entries
        if item.pruned
        and (not wanted or item.pruned.series in wanted)
        and (not left or item.pruned.layers in left)
        and (sweep == EVERY or item.sweep == sweep)
        and item.run.id not in without
    ]


def _sweeps(runs: list[Run]) -> dict[str, str]:
    """What the sweeps of these runs are called, by their ids."""
    found = sweeps.sweeps([*{run.id: run for run in runs}.values()])
    return run_labels.distinct({sweep.id: run_labels.of_sweep(sweep) for sweep in found})


def calibrated_on(chosen: Sequence[Entry]) -> str:
    """How many tokens the pruned models read before, to follow what all are judged on; "" where none is pruned."""
    counts = sorted({item.run.config.n_tokens for item in chosen if item.pruned is not None})
    *others, last = [f"{count:,}" for count in counts] or [""]
    return f", calibrated on {' or '.join(filter(None, [', '.join(others), last]))} tokens" if counts else ""
