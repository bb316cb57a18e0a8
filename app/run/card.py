"""The result of a run as one card: the model before and after, each number with its error, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

import come.runs
from app import example_runs, formats
from app.components import glossary, widgets
from app.components.how_sure import how_sure
from app.run import sentences
from app.server import downloads
from app.state import request, session
from app.state.choice import Choice, Draft
from come.errors import ComeError
from come.report.card import Card, Cell, Row, card_of, taken_on
from come.request import RunConfig
from come.runs import Run

STYLE = """<style>
.come-card { overflow-x: auto; }
.come-card table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
.come-card :is(th, td) { padding: .34rem .6rem; text-align: right; border-bottom: 1px solid var(--come-line); }
.come-card :is(th[scope=row], thead td) { text-align: left; padding-left: 0; }
.come-card th { font-weight: 400; opacity: .8; }
.come-card thead th { font-size: .8rem; }
.come-card td { white-space: nowrap; }
.come-card td.after { font-weight: 600; font-size: 1.05rem; }
.come-card tr.part :is(th, td) { font-size: .85rem; font-weight: 400; }
.come-card tr.part th { padding-left: 1rem; }
.come-card small { opacity: .72; font-weight: 400; white-space: nowrap; }
.st-key-ways-on [data-testid="stPageLink"] a, .st-key-to-take-home a {  /* as the buttons beside them */
  min-height: 2.5rem; padding: .35rem .75rem; border: 1px solid var(--come-line); border-radius: .5rem;
}
.st-key-to-take-home a { display: inline-flex; align-items: center; gap: .4rem; }
.st-key-to-take-home p { font-size: .875rem; }
.st-key-to-take-home a { color: inherit !important; text-decoration: none !important; }
@media (max-width: 640px) {
  .come-card { font-size: .85rem; }
  .come-card :is(th, td) { padding: .3rem .3rem; }
  .come-card td.after { font-size: .9rem; }
  .come-card small { display: block; }
}
</style>"""


def draw(run: Run, config: RunConfig) -> None:
    """The card of a run that is done."""
    with st.container(border=True, key="result-card"):
        st.markdown(f"**{sentences.result_sentence(run)}**")
        if config.kind == "analyze":
            widgets.next_step("layers", "See the layers")
            return
        together = come.runs.runs_of(config.sweep) if config.sweep else []
        if active := sum(other.state().active for other in together if other.id != run.id):
            st.caption(f":material/progress_activity: {active} of the runs that were started with it still to come.")
        results = run.results()
        if table := numbers(results):
            st.html(STYLE + table)
            how_sure(_taken_on(results), key="how-sure-result")
        _ways_on(run, config, len(together))


def numbers(results: Mapping[str, Any]) -> str:
    """The numbers of both models side by side (HTML); "" where nothing of either is known."""
    card = card_of(results)
    return "" if card is None else table(card)


def table(card: Card) -> str:
    """A card's rows (HTML)."""
    head = "".join(f"<th scope='col'>{word}</th>" for word in card.heads)
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(map(_line, card.rows))}</tbody>"
    return f"<div class='come-card'><table>{body}</table></div>"


def _line(row: Row) -> str:
    """A line of the table."""
    last = len(row.cells) - 1
    cells = "".join(
        f"<td{' class=after' if place == last else ''}>{_said(cell)}</td>" for place, cell in enumerate(row.cells)
    )
    kind = " class='part'" if row.part else ""
    return f"<tr{kind}><th scope='row'>{escape(row.name)}</th>{cells}<td>{_said(row.change)}</td></tr>"


def _said(cell: Cell) -> str:
    beside = f"<small>{escape(cell.beside)}</small>" if cell.beside else ""
    return f"{escape(cell.value)} {beside}".strip()


def _taken_on(results: Mapping[str, Any]) -> str:
    """On what the numbers were taken, and what their errors are (markdown)."""
    return formats.literal(taken_on(results))


def _ways_on(run: Run, config: RunConfig, together: int) -> None:
    """What can be done with the result; `together`: how many runs were started with it, itself among them."""
    with st.container(key="ways-on", horizontal=True, vertical_alignment="center", gap="small"):
        widgets.next_step("inspect", "What it is made of", ":material/extension:", run=run.id)
        if st.button("Talk to it", key="talk-to-it", icon=":material/forum:"):
            session.set_choice(request.choice_of(config))
            st.switch_page(widgets.PAGES / "playground.py", query_params={"with": run.id})
        if together > 1:
            label = f"Compare its {together} runs"
            widgets.next_step("compare", label, ":material/compare_arrows:", sweep=config.sweep)
        else:
            widgets.next_step("compare", "Compare", ":material/compare_arrows:")
        if st.button("Edit this plan", key="edit-plan", icon=":material/edit_note:"):
            try:
                choice, draft = asked_again(run, config)
            except ComeError as error:
                st.error(formats.sentence(str(error)), icon=":material/error:")
            else:
                session.set_choice(choice)
                session.set_draft(draft)
                st.switch_page(widgets.PAGES / "plan.py")
        if example_runs.is_example(run):
            downloads.plan_button(run, "Download the plan", f"plan-{run.id}")
        else:
            with st.container(key="to-take-home", width="content"):
                st.markdown("[:material/arrow_downward: Take it home](#take-it-home)", width="content")
        widgets.info("What is perplexity?", glossary.PERPLEXITY, key="perplexity")


def asked_again(run: Run, config: RunConfig) -> tuple[Choice, Draft]:
    """What a run was asked for, with the windows that it chose, as a plan to edit.

    Raises:
        ComeError: it cannot be read.
    """
    plan = run.plan()
    if plan is None or config.options.get("windows") is not None:
        return request.from_json(request.to_json(config))
    return request.of_plan(plan, request.choice_of(config))
