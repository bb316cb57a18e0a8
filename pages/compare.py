"""What the runs say: the verdict, a metric against what is left of the model, method by target, the table."""

from __future__ import annotations

import pandas as pd
import streamlit as st

import come
import come.runs
from app.compare import chart
from app.compare.chart import Shown
from app.components import example_runs, glossary, labels, plain_text, poll, widgets
from app.figures import compare as figures
from app.figures import compare_heatmap
from app.state import session, widget_state
from come.report import comparison, metrics, points, tables, verdict
from come.report.comparison import Entry
from come.report.measured import Result
from come.report.metrics import LAYERS, SIZES, Metric, Size

FEW_LINES = 12


def page() -> None:
    if session.value("run-to-open"):
        session.put("run-to-open", False)
        st.switch_page(widgets.PAGES / "run.py")
    st.title("Compare")
    known = come.runs.list_runs()
    own = comparison.entries(known)
    active = [item.run for item in own if item.run.state().active]
    shipped = not any(item.pruned for item in own)
    groups = comparison.groups(comparison.entries(example_runs.runs()) if shipped else own)
    told = st.empty()
    _compared(own, groups, shipped)
    if active:
        poll.follow(told, active, {run.id for run in known})


def _compared(own: list[Entry], groups: dict[tuple, list[Entry]], shipped: bool) -> None:
    """All that there is to say of the runs."""
    if not groups:
        widgets.empty_state(
            "No finished run yet",
            "A run shows here as soon as it has been evaluated.",
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
    metric, size, kind, chosen = _controls(groups[key], key)
    results = [item.pruned for item in chosen if item.pruned]
    originals = [item.original for item in chosen if item.original]
    if not results:
        st.markdown("Your filters leave no run. Remove one of them under **Choose runs**.")
        return
    with words:
        first, *rest = verdict.sentences(results, originals)
        st.markdown(f"## {plain_text.literal(first)}")
        if rest:
            st.markdown(plain_text.literal(" ".join(rest)))
        of = f" of {comparison.count(groups[key])}" if len(chosen) < len(groups[key]) else ""
        with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
            part = ", held-back part" if key[1] else ""
            st.caption(
                f"{plain_text.literal(groups[key][0].title)}{part}. {comparison.count(chosen)}{of}.", width="content"
            )
            widgets.info("How to read this", glossary.COMPARED, key="compared-terms")
    shown = chart.shown(results, originals, metric, size)
    _figure(shown, kind)
    _heatmap(results, metric, kind)
    _table(results, originals)
    _left_out(comparison.left_out(own, key))


# --- what is compared --------------------------------------------------------------------------------


def _group(groups: dict[tuple, list[Entry]]) -> tuple:
    """Which model and text: a choice only where there are several."""
    keys = list(groups)
    if len(keys) == 1:
        return keys[0]
    titles = labels.distinct({f"{place}": groups[key][0].title for place, key in enumerate(keys, 1)})
    by_title = dict(zip(titles.values(), keys, strict=True))
    chosen = widget_state.keep_among("comparison", list(by_title), next(iter(by_title)))
    st.selectbox("Model and text", list(by_title), key="comparison")
    return by_title[chosen]


def _controls(entries: list[Entry], key: tuple) -> tuple[Metric, Size, str, list[Entry]]:
    """What to draw against what, of which runs, and what the camera above a figure saves."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        drawn = [m for m in metrics.measured([item.pruned for item in entries if item.pruned]) if m.drawn]
        titles = {metric.key: metric.title for metric in drawn}
        widget_state.keep_among("metric", list(titles), next(iter(titles)))
        chosen = st.selectbox("Figure", list(titles), key="metric", format_func=titles.__getitem__, width=280)
        widget_state.keep_among("against", list(SIZES), "layers")
        against = st.segmented_control(
            "Against", list(SIZES), key="against", required=True, format_func=lambda name: SIZES[name].title
        )
        kind = st.segmented_control(
            "Save figures as",
            ["svg", "png"],
            default="svg",
            required=True,
            key="figure-format",
            format_func=str.upper,
            help="What the camera above a figure saves, made in your browser.",
        )
        kept = _filtered(entries, str(hash(key) & 0xFFFF))
    return metrics.metric(chosen), SIZES[against or "layers"], kind or "svg", kept


def _filtered(entries: list[Entry], place: str) -> list[Entry]:
    """The runs that are left of the entries; nothing chosen in a list means all."""
    names = labels.distinct(
        {item.run.id: f"{item.name.removesuffix(comparison.BEFORE)} · {item.run.id[:15]}" for item in entries}
    )
    with st.popover("Choose runs", icon=":material/filter_list:"):
        lines = sorted({item.pruned.series for item in entries if item.pruned})
        layers = sorted({item.pruned.layers for item in entries if item.pruned and item.pruned.layers}, reverse=True)
        sweeps = sorted({item.sweep for item in entries if item.sweep})
        wanted = st.multiselect("Methods", lines, key=f"methods-{place}", placeholder="All methods")
        left = st.multiselect("Layers left", layers, key=f"layers-{place}", placeholder="All sizes")
        sweep = None
        if sweeps:
            sweep = st.selectbox("Sweep", sweeps, index=None, key=f"sweep-{place}", placeholder="All runs")
        without = st.multiselect(
            "Leave out", list(names), key=f"without-{place}", format_func=names.__getitem__, placeholder="No run"
        )
    return [
        item
        for item in entries
        if item.pruned
        and (not wanted or item.pruned.series in wanted)
        and (not left or item.pruned.layers in left)
        and (sweep is None or item.sweep == sweep)
        and item.run.id not in without
    ]


# --- figures -----------------------------------------------------------------------------------------


def _figure(shown: Shown, kind: str) -> None:
    metric = shown.metric
    key = metric.key.replace("/", "-")
    figure = figures.lines(shown.points, shown.original, metric, shown.size, list(come.methods()), chance=shown.chance)
    widgets.figure(
        figure,
        key=key,
        alt=f"{metric.title} of each run against {shown.size.title.lower()}; the table below holds it.",
        image="png" if kind == "png" else "svg",
        on_select=lambda: _clicked(key),
    )
    st.caption(plain_text.literal(" ".join(chart.notes(shown))))
    _picked(shown)


def _heatmap(results: list[Result], metric: Metric, kind: str) -> None:
    drawn = points.points(results, metric, LAYERS)
    if len({point.series for point in drawn}) < 2:
        return
    st.html(compare_heatmap.CSS)
    widgets.figure(
        compare_heatmap.heatmap(drawn, metric, st.context.theme.type),
        key="method-by-target",
        alt=f"{metric.title} by method and layers left; the table below holds it.",
        image="png" if kind == "png" else "svg",
        width=compare_heatmap.width(drawn),
        on_select=lambda: _clicked("method-by-target"),
    )
    st.caption("Framed: the best of its column. The shade is the rank within the column; rows go by mean rank.")


def _clicked(key: str) -> None:
    """Open the run of a clicked point; of a mean over seeds, offer its runs."""
    clicked = session.clicked(key)
    if clicked and clicked[0].get("customdata"):
        _open(str(clicked[0]["customdata"][0]).split())


def _open(ids: list[str]) -> None:
    if len(ids) == 1:
        session.open_run(ids[0])
        session.put("run-to-open", True)
    else:
        session.put("runs-picked", ids)


def _picked(shown: Shown) -> None:
    """The runs behind the mean that was clicked last."""
    ids = session.value("runs-picked")
    drawn = [*shown.points, *([shown.original] if shown.original else [])]
    point = next((each for each in drawn if each.runs == ids), None)
    if point is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{plain_text.literal(point.series)}, {point.layers} layers:**")
        for result, value in zip(point.results, point.each, strict=True):
            st.button(
                f"Open seed {result.seed}: {shown.metric.say(value)}",
                key=f"open-{result.run}",
                icon=":material/arrow_forward:",
                on_click=_open,
                args=([result.run],),
            )


# --- the table ---------------------------------------------------------------------------------------


def _table(results: list[Result], originals: list[Result]) -> None:
    st.header("All figures")
    lines = tables.rows(results, originals)
    ids = [line.run for line in lines]
    form = {
        name: st.column_config.NumberColumn(format=f"%.{digits}f") for name, digits in tables.decimals(lines).items()
    }
    table = pd.DataFrame(tables.columns(lines))
    config = {"Method": st.column_config.TextColumn(pinned=True), **form}
    height = "content" if len(lines) <= FEW_LINES else 460
    names = labels.distinct(
        {
            line.run: f"{line.name.removesuffix(comparison.BEFORE)}, seed {line.seed}"
            for line in lines
            if line.method != "original"
        }
    )
    st.selectbox(
        "Open a run",
        list(names),
        index=None,
        key="open-compared",
        format_func=names.__getitem__,
        placeholder="Choose one, tick its line below, or click its point above",
        on_change=_open_chosen,
        args=(list(names),),
    )
    st.dataframe(
        table,
        hide_index=True,
        height=height,
        key="compared-table",
        column_config=config,
        placeholder="–",
        on_select=lambda: _open_line(ids),
        selection_mode="single-row",
    )
    _downloads(lines, results, originals)


def _open_chosen(ids: list[str]) -> None:
    if session.value("open-compared") in ids:
        _open([session.value("open-compared")])


def _open_line(ids: list[str]) -> None:
    rows = session.value("compared-table")["selection"]["rows"]
    if rows and rows[0] < len(ids):
        _open([ids[rows[0]]])


def _downloads(lines: list[Result], results: list[Result], originals: list[Result]) -> None:
    documents = (
        ("CSV", tables.to_csv(lines), "csv", "text/csv", "One line per run, every figure unrounded."),
        (
            "Markdown",
            tables.to_markdown(results, originals),
            "md",
            "text/markdown",
            "One line per method and size, ± error.",
        ),
        (
            "LaTeX",
            tables.to_latex(results, originals),
            "tex",
            "text/x-tex",
            "The same as a booktabs table, best in bold.",
        ),
    )
    with st.container(horizontal=True):
        for label, text, ending, mime, about in documents:
            st.download_button(
                label,
                text,
                f"come-lab-comparison.{ending}",
                mime,
                key=ending,
                icon=":material/download:",
                help=about,
                on_click="ignore",
            )


# --- what is not there -------------------------------------------------------------------------------


def _left_out(items: list[tuple[Entry, str]]) -> None:
    if not items:
        return
    with st.expander(f"{len(items)} run{'s' if len(items) != 1 else ''} not shown"):
        for item, reason in items:
            st.markdown(f":gray[{plain_text.literal(item.name)}: {plain_text.sentence(reason)}]")


page()
