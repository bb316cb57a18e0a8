"""What the runs say: the verdict in a sentence, perplexity against what is left of the model, the table."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import come.merge
import come.runs
from app import comparison, example, widgets
from app.comparison import Entry, Result
from app.figures import compare as figures

AGAINST = {"layers": "Layers", "parameters": "Parameters"}


def page() -> None:
    st.title("Compare")
    own = [item for item in map(comparison.entry, come.runs.list_runs()) if item]
    shipped = not any(item.pruned for item in own)
    entries = [item for item in map(comparison.entry, example.runs()) if item] if shipped else own
    groups = comparison.groups(entries)
    if not groups:
        widgets.empty_state(
            "No finished run yet",
            "A run shows here as soon as its perplexity is known.",
            "run",
            "Start a run",
        )
        _left_out(comparison.left_out(own, None))
        return
    if shipped:
        st.caption(
            ":material/bookmark: Shipped example: computed by this program on the bundled model. "
            "Your own runs take its place."
        )
    key = _group(groups)
    words = st.container()  # the verdict comes first, but depends on the choice below it
    chosen = _chosen(groups[key])
    results = [item.pruned for item in chosen if item.pruned]
    original = next((item.original for item in chosen if item.original), None)
    titles = {name: method.title for name, method in come.merge.methods().items()}
    with words:
        st.markdown(f"### {comparison.verdict(results, original, titles)}")
        st.caption(f"Perplexity of {groups[key][0].title} (held-back part; lower is better).")
    _figure(results, original, titles)
    _table(results, original, titles)
    _left_out(comparison.left_out(own, key))


def _group(groups: dict[tuple, list[Entry]]) -> tuple:
    """Which model and text: a choice only where there are several."""
    keys = list(groups)
    if len(keys) == 1:
        return keys[0]
    titles = [f"{groups[key][0].title} ({len(groups[key])} runs)" for key in keys]
    place = st.selectbox("Model and text", range(len(keys)), key="comparison", format_func=titles.__getitem__)
    return keys[place or 0]


def _chosen(entries: list[Entry]) -> list[Entry]:
    names = {item.run.id: _label(item) for item in entries}
    wanted = st.multiselect(
        "Runs",
        list(names),
        default=list(names),
        key=f"chosen-{hash(tuple(names)) & 0xFFFF}",
        format_func=names.__getitem__,
        placeholder="Choose runs to compare",
    )
    return [item for item in entries if item.run.id in wanted]


def _label(item: Entry) -> str:
    layers = f"{item.pruned.layers} layers" if item.pruned else ""
    return f"{item.method}, {layers}" if item.name == item.run.id else item.name


def _figure(results: list[Result], original: Result | None, titles: dict[str, str]) -> None:
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        against = st.segmented_control(
            "Against",
            list(AGAINST),
            default="layers",
            required=True,
            key="against",
            format_func=AGAINST.__getitem__,
            bind="query-params",
        )
        kind = st.segmented_control(
            "Save figure as",
            ["svg", "png"],
            default="svg",
            required=True,
            key="figure-format",
            format_func=str.upper,
            help="What the camera above the figure saves, made in your browser.",
        )
    figure = figures.perplexity_figure(results, original, titles, against or "layers")
    widgets.figure(
        figure, key="perplexity", alt="Perplexity of each run; the table below holds it.", image=kind or "svg"
    )


def _table(results: list[Result], original: Result | None, titles: dict[str, str]) -> None:
    rows = [*([original] if original else []), *sorted(results, key=lambda r: (-r.layers, r.perplexity))]
    if not rows:
        return
    table = pd.DataFrame(
        {
            "Method": [titles.get(row.method, row.method) for row in rows],
            "Layers": [row.layers for row in rows],
            "Parameters (M)": [row.parameters / 1e6 for row in rows],
            "Size (MiB)": [row.bytes / 2**20 for row in rows],
            "Perplexity": [row.perplexity for row in rows],
            "± standard error": [row.stderr for row in rows],
            "Run": [row.name for row in rows],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height="content",
        column_config={
            "Parameters (M)": st.column_config.NumberColumn(format="%.1f"),
            "Size (MiB)": st.column_config.NumberColumn(format="%.0f"),
            "Perplexity": st.column_config.NumberColumn(format="%.2f"),
            "± standard error": st.column_config.NumberColumn(format="%.2f"),
        },
    )
    st.download_button(
        "Download as CSV",
        comparison.to_csv(results, original),
        "come-lab-runs.csv",
        "text/csv",
        key="csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _left_out(items: list[tuple[Entry, str]]) -> None:
    if not items:
        return
    with st.expander(f"{len(items)} run{'s' if len(items) != 1 else ''} not shown"):
        for item, reason in items:
            st.markdown(f":gray[{item.name}: {reason}]")


page()
