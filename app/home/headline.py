"""What the home page shows first of results: the newest of the visitor's own, else the shipped example."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import streamlit as st

import come
from app import example_runs, formats
from app.components import glossary, widgets
from app.components.how_sure import how_sure
from app.figures import compare as figures
from app.figures import compare_labels
from app.run import sentences
from come.errors import ComeError
from come.report import comparison, verdict
from come.report.comparison import Entry
from come.report.metrics import LAYERS, PERPLEXITY, factor, number
from come.report.points import points
from come.runs import Run

HEIGHT = 215
LOOKED_AT = 50  # runs, of which the newest is sought, and those that compare with it


@dataclass(frozen=True)
class Headline:
    """What there is to tell.

    Attributes:
        said: the result in one sentence.
        shown: what the chart holds; nothing where nothing was evaluated.
        pictured: the runs that it speaks of, the best first: the layers of one of them are drawn.
        own: the visitor's newest run; None of the example.
        compared: that run compares with others.
    """

    said: str
    shown: list[Entry]
    pictured: list[Run]
    own: Run | None = None
    compared: bool = False


def of(known: Sequence[Run]) -> Headline | None:
    """What is told of these runs, newest first; None where they have no result and there is no example either."""
    own = newest(known)
    return _example() if own is None else _own(own, known[:LOOKED_AT])


def newest(known: Sequence[Run]) -> Run | None:
    """The newest of these runs (newest first) that has a result."""
    return next((run for run in known[:LOOKED_AT] if _is_result(run)), None)


def _is_result(run: Run) -> bool:
    try:
        return run.config.kind == "compress" and run.state().status == "done" and bool(run.results().get("pruned"))
    except ComeError:  # of one that cannot be read its line below says so
        return False


def _own(last: Run, known: Sequence[Run]) -> Headline:
    """The newest run; of a sweep, what its runs say together."""
    group = next((found for found in _groups(known) if any(item.run.id == last.id for item in found)), [])
    swept = [item for item in group if last.config.sweep and item.sweep == last.config.sweep]
    compared = len({item.run.id for item in group}) > 1
    if len({item.run.id for item in swept}) > 1:
        # What the title speaks of; all runs stand on the compare page.
        said = _verdict(swept)[0]
        return Headline(said, swept, _best_first(swept), last, compared)
    return Headline(_found(last), group, [last], last, compared)


def _found(run: Run) -> str:
    """What a run found, as short as a title."""
    results = run.results()
    was, now = ((results.get(side) or {}).get("perplexity") for side in ("original", "pruned"))
    name = comparison.run_name(run)
    if not (was and now):
        return f"{name}: {sentences.result_sentence(run)}"
    return f"{name}: perplexity {number(was)}\u00a0→\u00a0{number(now)} (×\u00a0{factor(now / was)})"


def _example() -> Headline | None:
    """The shipped runs as pruning leaves the models: one thing is told."""
    entries = [item for item in comparison.entries(example_runs.runs()) if item.pruned and not item.pruned.recovered]
    if not entries:
        return None
    mildest = max(item.run.config.target_layers or 0 for item in entries)
    told = [item for item in entries if item.run.config.target_layers == mildest]
    return Headline(_verdict(entries)[0], entries, _best_first(told))


def _best_first(entries: Sequence[Entry]) -> list[Run]:
    """The runs by perplexity, the lowest first; those without come last."""

    def perplexity(item: Entry) -> float:
        value = item.pruned.values.get(PERPLEXITY.key) if item.pruned else None
        return value.value if value is not None else math.inf

    return [item.run for item in sorted(entries, key=perplexity)]


def draw(found: Headline) -> None:
    """The result as the title of its chart, and the way to more."""
    if not found.shown:  # nothing was evaluated
        st.markdown(f"**{formats.literal(found.said)}**")
    else:
        _chart(found.shown, found.said, "home-example" if found.own is None else "home-own")
    if found.own is None:
        _about_example(found.shown)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(":material/history: Your newest result.", width="content")
        widgets.next_step("run", "Open it", run=found.own.id)
        if found.compared:
            widgets.next_step("compare", "Compare your runs")


def _about_example(entries: Sequence[Entry]) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(":material/bookmark: Shipped example", width="content")
        words = (
            f"{comparison.count(entries)} on the bundled model, computed by this program. The factor is "
            "paired on the same sequences, with its 95% interval. ▲: off the scale."
        )
        how_sure("\n\n".join([" ".join(_verdict(entries)[1:]), words]), key="sure-of-example")
        widgets.info("What is perplexity?", glossary.PERPLEXITY, key="perplexity")


def _groups(known: Sequence[Run]) -> list[list[Entry]]:
    return list(comparison.groups(comparison.entries(known)).values())


def _verdict(entries: Sequence[Entry]) -> list[str]:
    results = [item.pruned for item in entries if item.pruned]
    return verdict.sentences(results, [item.original for item in entries if item.original])


def _chart(entries: Sequence[Entry], said: str, key: str) -> None:
    originals = [item.original for item in entries if item.original]
    titles = {name: method.title for name, method in come.methods().items()}
    results = [item.pruned for item in entries if item.pruned]
    figure = figures.perplexity_figure(results, originals[0] if originals else None, titles)
    figure.update_layout(title_text=escape(said, quote=False), height=HEIGHT)
    figure.update_yaxes(title_text="perplexity (lower is better)")  # what is said of its scale is longer than it is
    for trace in figure.data:  # each model's own error is wide, and says little of how they differ
        trace.error_y = None
    compare_labels.at_ends(figure, points(results, PERPLEXITY, LAYERS))
    widgets.chart(figure, key=key, alt=f"Perplexity against layers left. {said}")
