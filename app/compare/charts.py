"""The compare page's charts: a metric against the size, method by target; and what a click on them opens."""

from __future__ import annotations

import math
from html import escape

import streamlit as st

import come
from app import formats, presenter
from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import compare as figures
from app.figures import compare_heatmap, compare_paired
from app.state import session, widget_state
from come.report import paired, points
from come.report.chart import RINGED, Chart, notes
from come.report.measured import Result
from come.report.metrics import LAYERS, Metric
from come.report.points import Point

THE_BEST, THE_ORIGINAL = "the best", "the original"


def place(places: dict[int, list[Point]], usual: int) -> int:
    """At how many layers the models are judged, by default at the usual ones: a choice where there are several."""
    if len(places) == 1:
        return usual
    names = [str(layers) for layers in places]
    widget_state.keep_among("judged-at", names, str(usual))
    chosen = st.segmented_control("Judged at", names, key="judged-at", required=True, format_func="{} layers".format)
    return int(chosen or usual)


def reference(ranked: list[Point], original: Point | None, metric: Metric) -> Point | None:
    """What the models of one size are compared with; None where there is nothing to compare."""
    whole = original if metric.original is None and metric.key.partition("/")[0] != "retention" else None
    if not paired.can_differ(metric) or len(ranked) + bool(whole) < 2:
        return None
    if len(ranked) == 1:  # beside itself it would be one dot
        return whole
    by_name = {THE_BEST: ranked[0], **({THE_ORIGINAL: whole} if whole else {}), **{p.series: p for p in ranked}}
    widget_state.keep_among("compared-with", list(by_name), THE_BEST)
    chosen = st.selectbox("Compared with", list(by_name), key="compared-with", width=180)
    return by_name[chosen or THE_BEST]


def differences(ranked: list[Point], reference: Point, metric: Metric, kind: str) -> None:
    """The main comparison: how each model of one size differs from one of them, on the same tokens or questions.

    Args:
        ranked: the models. reference: the one. metric: by what they are judged.
        kind: of picture that the camera saves.
    """
    drawn = ranked if reference in ranked else [reference, *ranked]
    found = [None if point is reference else paired.difference(point, reference, metric) for point in drawn]
    told = [each for each in found if each is not None]
    nearest, by = min(zip(drawn, found, strict=True), key=lambda each: abs(each[1].value) if each[1] else math.inf)
    which = "Nearest to" if len(told) > 1 else "Beside"
    whom = "the original" if reference.method == "original" else reference.series
    title = escape(
        f"{which} {whom}: {nearest.series}" + (f", {paired.say(by, metric, named=True)}" if by else ""), quote=False
    )
    widgets.chart(
        compare_paired.differences(
            drawn,
            found,
            reference,
            metric,
            list(come.methods()),
            escape(title, quote=False),
            before_a_room=presenter.is_on(),
        ),
        key="paired",
        alt=f"{metric.title}: how each differs from {reference.series}; the verdict above and the table below say it.",
        image="png" if kind == "png" else "svg",
        on_select=lambda: _clicked("paired"),
    )
    same = {f"{each.count:,} {each.of}s" for each in told if each.paired}
    words = [f"Paired on the same {same.pop()}." if len(same) == 1 else "", "Bars and numbers: 95% intervals."]
    if any(each.told not in ("better", "worse") for each in told):
        words.append("Hollow: cannot be told from the line.")
    if any(not each.paired for each in told):
        words.append("Some kept no numbers for each sequence or question: not paired, so their errors are too wide.")
    st.caption(" ".join(words).strip())


def lines(shown: Chart, kind: str, on: str, recovered: bool) -> None:
    """The metric against the size, one line a method.

    Args:
        shown: what it holds. kind: as for `differences`.
        on: which model they were made of and what they were judged on (markdown).
        recovered: its title speaks of the models after recovery, not before, as the verdict does.
    """
    metric = shown.metric
    key = metric.key.replace("/", "-")
    figure = figures.lines(
        shown.points,
        shown.original,
        metric,
        shown.size,
        list(come.methods()),
        chance=shown.chance,
        recovered=recovered,
    )
    widgets.chart(
        figure,
        key=key,
        alt=f"{metric.title} of each run against {shown.size.title.lower()}; the table below holds it.",
        image="png" if kind == "png" else "svg",
        on_select=lambda: _clicked(key),
    )
    told = notes(shown)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if paired.can_differ(metric):
            rings = [RINGED] if any(trace.name == figures.FRONT and len(trace.x) for trace in figure.data) else []
            words = ["Pale bars: one standard error of each model alone.", *rings]
            st.caption(" ".join(words), width="content")
            told = [note for note in told if note not in rings]
        how_sure("\n\n".join([f"{on}.", *map(formats.literal, told)]), key="how-sure-lines")


def heatmap(results: list[Result], metric: Metric, kind: str, recovered: bool) -> None:
    """Method by layers left, where there are several of both; `recovered` is that of `lines`."""
    drawn = points.points(results, metric, LAYERS)
    rows, columns = ({point.series for point in drawn}, {point.layers for point in drawn})
    if len(rows) < 2 or len(columns) < 2 or 2 * len(drawn) <= len(rows) * len(columns):  # most of it would be empty
        return
    st.html(compare_heatmap.CSS)
    widgets.chart(
        compare_heatmap.heatmap(drawn, metric, st.context.theme.type, recovered),
        key="method-by-target",
        alt=f"{metric.title} by method and layers left; the table below holds it.",
        image="png" if kind == "png" else "svg",
        width=compare_heatmap.width(drawn),
        on_select=lambda: _clicked("method-by-target"),
    )


def _clicked(key: str) -> None:
    """Open the run of a clicked point; of a mean over seeds, offer its runs."""
    clicked = session.clicked(key)
    if clicked and clicked[0].get("customdata"):
        open_runs(str(clicked[0]["customdata"][0]).split())


_TO_OPEN = "run-to-open"
_OFFERED = "runs-picked"


def leave_for_chosen() -> None:
    """Go to the run page, if a run was chosen in the click before."""
    if session.value(_TO_OPEN):
        session.put(_TO_OPEN, False)
        st.switch_page(widgets.PAGES / "run.py")


def open_runs(ids: list[str]) -> None:
    """Open one run, or offer several. A callback: a page cannot be left in it."""
    if len(ids) == 1:
        session.open_run(ids[0])
        session.put(_TO_OPEN, True)
    else:
        session.put(_OFFERED, ids)


def offered(shown: Chart) -> None:
    """The runs behind the mean that was clicked last."""
    ids = session.value(_OFFERED)
    drawn = [*shown.points, *([shown.original] if shown.original else [])]
    point = next((each for each in drawn if each.runs == ids), None)
    if point is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{formats.literal(point.series)}, {point.layers} layers:**")
        for result, value in zip(point.results, point.each, strict=True):
            st.button(
                f"Open seed {result.seed}: {shown.metric.say(value)}",
                key=f"open-{result.run}",
                icon=":material/arrow_forward:",
                on_click=open_runs,
                args=([result.run],),
            )
