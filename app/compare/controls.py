"""The compare page's choices: which model and text, what to draw against what, of which runs."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.components import run_labels
from app.state import widget_state
from come.report import comparison, metrics
from come.report.comparison import Entry
from come.report.measured import Result
from come.report.metrics import SIZES, Metric, Size

EVERY = "All runs"  # of whatever sweep


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


def draw(entries: list[Entry], key: tuple[Any, ...]) -> tuple[Metric, Size, str, list[Entry]]:
    """What to draw against what, of which runs, and what the camera above a chart saves."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        drawn = [m for m in metrics.measured([item.pruned for item in entries if item.pruned]) if m.drawn]
        titles = {metric.key: metric.title for metric in drawn}
        widget_state.keep_among("metric", list(titles), next(iter(titles)))
        chosen = st.selectbox("Metric", list(titles), key="metric", format_func=titles.__getitem__, width=280)
        widget_state.keep_among("against", list(SIZES), "layers")
        against = st.segmented_control(
            "Against", list(SIZES), key="against", required=True, format_func=lambda name: SIZES[name].title
        )
        kind = st.segmented_control(
            "Save charts as",
            ["svg", "png"],
            default="svg",
            required=True,
            key="figure-format",
            format_func=str.upper,
            help="What the camera above a chart saves, made in your browser.",
        )
        kept = _filtered(entries, str(hash(key) & 0xFFFF))
    return metrics.metric(chosen), SIZES[against or "layers"], kind or "svg", kept


def after_recovery(results: list[Result]) -> bool:
    """Whether to judge the models after recovery: a choice where some were recovered and some were not."""
    if len({result.recovered for result in results}) < 2:
        return False
    names = ["Before recovery", "After recovery"]
    widget_state.keep_among("judged-when", names, names[0])
    chosen = st.segmented_control("Judged", names, key="judged-when", required=True)
    return bool(chosen == names[1])


def _filtered(entries: list[Entry], place: str) -> list[Entry]:
    """The runs that are left of the entries; nothing chosen in a list means all."""
    names = run_labels.distinct(
        {item.run.id: f"{item.name.removesuffix(comparison.BEFORE)} · {item.run.id[:15]}" for item in entries}
    )
    with st.popover("Choose runs", icon=":material/filter_list:"):
        lines = sorted({item.pruned.series for item in entries if item.pruned})
        layers = sorted({item.pruned.layers for item in entries if item.pruned and item.pruned.layers}, reverse=True)
        sweeps = sorted({item.sweep for item in entries if item.sweep})
        wanted = st.multiselect("Methods", lines, key=f"methods-{place}", placeholder="All methods")
        left = st.multiselect("Layers left", layers, key=f"layers-{place}", placeholder="All sizes")
        of = [EVERY, *sweeps]
        widget_state.keep_among("sweep", of, EVERY)
        sweep = st.selectbox("Sweep", of, key="sweep") if sweeps else EVERY
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
