"""The result of a run as one card: the model before and after, each number with its error, and what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import streamlit as st

from app import downloads, example_runs, formats
from app.components import glossary, widgets
from app.components.how_sure import how_sure
from app.run import sentences
from app.state import request, session
from app.state.choice import Choice, Draft
from come.errors import ComeError
from come.report.measured import Value, values
from come.report.metrics import ends, metric
from come.request import RunConfig
from come.runs import Run

ROWS = ("perplexity", "kl", "accuracy", "decode_rate", "prefill_rate", "peak_memory")
ALWAYS = {"perplexity": "Perplexity", "accuracy": "Accuracy", "decode_rate": "Speed"}  # said even if not measured
NAMES = {
    "kl": "KL divergence from the original",
    "accuracy": "Accuracy",
    "decode_rate": "Speed, writing",
    "prefill_rate": "Speed, reading",
    "peak_memory": "Peak memory",
}
UNITS = {"decode_rate": " tokens/s", "prefill_rate": " tokens/s"}
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
        results = run.results()
        if table := numbers(results):
            st.html(STYLE + table)
            how_sure(_taken_on(results), key="how-sure-result")
        _ways_on(run, config)


def numbers(results: Mapping[str, Any]) -> str:
    """The numbers of both models side by side (HTML); "" where nothing of either is known."""
    original, pruned, between = (results.get(side) or {} for side in ("original", "pruned", "unrecovered"))
    if not (original and pruned):
        return ""
    sides = [original, *([between] if between else []), pruned]
    heads = ["Before", *(["Pruned", "Recovered"] if between else ["After"]), "Change"]
    known = [values(side, original) for side in sides]
    rows = [_row("Layers", [_whole(side.get("layers")) for side in sides], "")]
    if all(side.get("parameters") for side in sides):
        counts = [side["parameters"] for side in sides]
        change = formats.percent(counts[-1] / counts[0] - 1)
        rows.append(_row("Parameters", [formats.human_count(count) for count in counts], change))
    if all(side.get("bytes") for side in sides):
        rows.append(_row("Weights", [formats.human_bytes(side["bytes"]) for side in sides], ""))
    for key in ROWS:
        if any(key in each for each in known):
            rows.append(_measured(key, known))
            rows += _tasks(known) if key == "accuracy" else []
        elif key in ALWAYS:
            rows.append(_row(ALWAYS[key], ["<small>not measured</small>"] + [""] * (len(sides) - 1), ""))
    head = "".join(f"<th scope='col'>{word}</th>" for word in heads)
    body = f"<thead><tr><td></td>{head}</tr></thead><tbody>{''.join(rows)}</tbody>"
    return f"<div class='come-card'><table>{body}</table></div>"


def _measured(key: str, known: list[dict[str, Value]], part: bool = False) -> str:
    """A metric of all models as a line of the table."""
    shown = metric(key)
    name = NAMES.get(key) or (shown.title.partition(": ")[2].capitalize() if part else shown.title)
    if key == "accuracy" and (tasks := sum(each.startswith("accuracy/") for each in known[-1])) > 1:
        name = f"{name}, mean of {tasks} sets"
    cells = [_with_error(key, each[key]) if key in each else "" for each in known]
    if key == "kl":
        cells[0] = ""  # of itself
    return _row(name, cells, _change(key, known[0].get(key), known[-1].get(key)), part)


def _tasks(known: list[dict[str, Value]]) -> list[str]:
    """The sets of questions one by one, where there are several."""
    tasks = [key for key in known[-1] if key.startswith("accuracy/")]
    return [_measured(key, known, part=True) for key in tasks] if len(tasks) > 1 else []


def _with_error(key: str, value: Value) -> str:
    shown, (low, high) = metric(key), ends(value)
    unit = UNITS.get(key, "")
    if low is None or high is None:
        return f"{escape(shown.say(value.value))}<small>{unit}</small>"
    if value.quartiles is not None:
        between = f"{shown.bare(low, value.value)}–{shown.bare(high, value.value)}"
        return f"{escape(shown.say(value.value))} <small>({escape(between)}){unit}</small>"
    error = f"± {shown.bare(high - value.value, value.value)}{unit}"
    return f"{escape(shown.say(value.value))} <small>{escape(error)}</small>"


def _change(key: str, before: Value | None, after: Value | None) -> str:
    """What became of a number: a factor, or points of an accuracy."""
    if before is None or after is None or not before.value or key == "kl":
        return ""
    if key.startswith("accuracy"):
        return f"{100 * (after.value - before.value):+.1f} points".replace("-", "−")
    if key == "peak_memory":
        return formats.percent(after.value / before.value - 1)
    ratio = after.value / before.value
    return f"{ratio:.2f}×" if ratio < 100 else f"{ratio:,.0f}×"


def _row(name: str, cells: list[str], change: str, part: bool = False) -> str:
    last = len(cells) - 1
    inner = "".join(f"<td{' class=after' if place == last else ''}>{cell}</td>" for place, cell in enumerate(cells))
    kind = " class='part'" if part else ""
    return f"<tr{kind}><th scope='row'>{escape(name)}</th>{inner}<td>{escape(change)}</td></tr>"


def _whole(number: Any) -> str:
    return f"{number:,}" if isinstance(number, int) else ""


def _taken_on(results: Mapping[str, Any]) -> str:
    """On what the numbers were taken, and what their errors are."""
    held_out = results.get("evaluation") or {}
    tokens, text = held_out.get("n_tokens"), held_out.get("text")
    words = f"Perplexity on {tokens:,} held-out tokens of {formats.literal(str(text))}. " if tokens and text else ""
    timed = " Speed: median and quartiles." if (results.get("pruned") or {}).get("speed") else ""
    return f"{words}± is one standard error.{timed}"


def _ways_on(run: Run, config: RunConfig) -> None:
    """What can be done with the result."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        widgets.next_step("inspect", "What it is made of", ":material/extension:", run=run.id)
        if st.button("Talk to it", key="talk-to-it", icon=":material/forum:", type="tertiary"):
            session.set_choice(request.choice_of(config))
            st.switch_page(widgets.PAGES / "playground.py", query_params={"with": run.id})
        widgets.next_step("compare", "Compare", ":material/compare_arrows:")
        if st.button("Edit this plan", key="edit-plan", icon=":material/edit_note:", type="tertiary"):
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
            st.markdown(":material/download: [Download](#take-it-home)", width="content")
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
