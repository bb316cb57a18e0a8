"""What the home page shows first of results: the newest of the visitor's own, else the shipped example."""

from __future__ import annotations

from collections.abc import Sequence
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

LOOKED_AT = 50  # runs, of which the newest is sought, and those that compare with it


def draw(known: Sequence[Run]) -> None:
    """The result in one sentence, as the title of its chart.

    Args:
        known: the runs of this place, newest first.
    """
    own = newest(known)
    if own is None:
        _example()
    else:
        _own(own, known[:LOOKED_AT])


def newest(known: Sequence[Run]) -> Run | None:
    """The newest of these runs (newest first) that has a result."""
    return next((run for run in known[:LOOKED_AT] if _is_result(run)), None)


def _is_result(run: Run) -> bool:
    try:
        return run.config.kind == "compress" and run.state().status == "done" and bool(run.results().get("pruned"))
    except ComeError:  # of one that cannot be read its line below says so
        return False


def _own(last: Run, known: Sequence[Run]) -> None:
    """The newest run; of a sweep, what its runs say together."""
    group = next((found for found in _groups(known) if any(item.run.id == last.id for item in found)), [])
    swept = [item for item in group if last.config.sweep and item.sweep == last.config.sweep]
    said, shown, sure = _found(last), group, ""
    if len({item.run.id for item in swept}) > 1:
        said, shown = _verdict(swept)[0], swept  # what the title speaks of; all runs stand on the compare page
        sure = "Brackets: the paired 95% interval." if "(" in said else ""
    if shown:
        _chart(shown, said, "home-own")
    else:  # nothing was evaluated
        st.markdown(f"**{formats.literal(said)}**")
    st.caption(f":material/history: Your newest result. {sure if shown else ''}".strip())
    with st.container(horizontal=True, gap="small"):
        widgets.next_step("run", "Open it", run=last.id)
        if len({item.run.id for item in group}) > 1:
            widgets.next_step("compare", "Compare your runs")


def _found(run: Run) -> str:
    """What a run found, as short as a title."""
    results = run.results()
    was, now = ((results.get(side) or {}).get("perplexity") for side in ("original", "pruned"))
    name = comparison.run_name(run)
    if not (was and now):
        return f"{name}: {sentences.result_sentence(run)}"
    return f"{name}: perplexity {number(was)}\u00a0→\u00a0{number(now)} (×\u00a0{factor(now / was)})"


def _example() -> None:
    """The shipped runs as pruning leaves the models: one thing is told."""
    entries = [item for item in comparison.entries(example_runs.runs()) if item.pruned and not item.pruned.recovered]
    if not entries:
        return
    first, *rest = _verdict(entries)
    _chart(entries, first, "home-example")
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(":material/bookmark: Shipped example", width="content")
        count = comparison.count(entries)
        words = (
            f"{count} on the bundled model, computed by this program. The factor is "
            "paired on the same sequences, with its 95% interval."
        )
        how_sure("\n\n".join([" ".join(rest), words]), key="sure-of-example")
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
    figure.update_layout(title_text=escape(said, quote=False), height=350)
    for trace in figure.data:  # each model's own error is wide, and says little of how they differ
        trace.error_y = None
    compare_labels.at_ends(figure, points(results, PERPLEXITY, LAYERS))
    widgets.chart(figure, key=key, alt=f"Perplexity against layers left. {said}")
