"""What a report says of one run: before and after, the ribbons of its plan, its charts, how it was made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import come
from come.errors import ComeError
from come.numbers import duration
from come.plan.plan import Plan
from come.plan.provenance import follow, units_of
from come.report.card import Card, card_of, sentence, taken_on
from come.report.comparison import run_name, short
from come.report.html import run_figures
from come.report.html.axes import Figure
from come.report.html.elements import Html, element, joined
from come.report.html.private import Hidden
from come.report.html.ribbons import ribbons
from come.report.probes import TITLE, pairs_of
from come.request import RunConfig
from come.runs import Run, reported
from come.runs.command_line import command_line

MOST_LINES = 80  # of a plan's steps, and of its notes
FEW_PARTS = 3  # ways and layers of a recovery, up to which their losses are drawn


@dataclass(frozen=True)
class Drawn:
    """A chart, what it is called, and what belongs under it."""

    title: str
    figure: Figure
    notes: str = ""


def run_card(run: Run, number: int, headed: bool, draw: Callable[[Drawn], Html]) -> Html:
    """All that is said of a run.

    Args:
        run: one that is done and holds both models.
        number: its place in the document, for links to it.
        headed: whether it has its name above it.
        draw: makes an element of a chart.

    Raises:
        ComeError: its plan is damaged.
    """
    config, results, plan, hidden = run.config, run.results(), run.plan(), Hidden(run)
    card = card_of(results)
    notes = [taken_on(results), *(hidden.in_text(each) for each in reported.texts_read(results))]
    return element(
        "section",
        element("h2", run_name(run)) if headed else Html(""),
        element("p", sentence(results), class_="lead") if headed else Html(""),
        table(card) if card else Html(""),
        element("p", " ".join(notes), class_="notes"),
        _ribbons(plan) if plan else Html(""),
        *(draw(each) for each in _charts(run, results, plan)),
        _probed(results, plan, draw),
        _plan_text(plan, hidden) if plan else Html(""),
        _made(run, config, results, plan, hidden),
        class_="run",
        id=f"run-{number}",
    )


def table(card: Card) -> Html:
    """The card's rows as a table."""
    heads = element("tr", element("td"), *(element("th", head, scope="col") for head in card.heads))
    rows = []
    for row in card.rows:
        last = len(row.cells) - 1
        cells = [
            element("td", cell.value, *_small(cell.value, cell.beside), **({"class_": "after"} if at == last else {}))
            for at, cell in enumerate(row.cells)
        ]
        name = element("th", row.name, scope="row")
        change = element("td", row.change.value, *_small(row.change.value, row.change.beside))
        rows.append(element("tr", name, *cells, change, **({"class_": "part"} if row.part else {})))
    return element(
        "div", element("table", element("thead", heads), element("tbody", *rows), class_="card"), class_="wide"
    )


def _small(value: str, beside: str) -> list[Html]:
    return [Html(" " if value else ""), element("small", beside)] if beside else []


def _ribbons(plan: Plan) -> Html:
    with suppress(ComeError):  # of a plan that silences units, how many there are is not known without its model
        if (drawing := ribbons(follow(plan, "ffn", units_of(plan, "ffn")))) is not None:
            words = "Above the layers of the original, below those of the pruned model; hatched is what was dropped."
            return element(
                "figure", element("h3", "What became of the layers"), element("div", drawing, class_="wide"),
                element("figcaption", words),
            )  # fmt: skip
    return Html("")


def _charts(run: Run, results: Mapping[str, Any], plan: Plan | None) -> Iterator[Drawn]:
    history = results.get("history") or [{}]
    if plan and (drawn := run_figures.influence(plan, history[0].get("block_influence") or [0.0])):
        yield Drawn("Block influence (BI) of each layer, as measured before the first step", drawn)
    sides = [(results.get(side) or {}).get("losses") or [] for side in ("original", "pruned")]
    if drawn := run_figures.sequences(*sides):
        yield Drawn("Loss of each held-out sequence, before and after", drawn)
    table = reported.curves(run.events())
    parts = reported.parts(table)
    if 0 < len(parts) <= FEW_PARTS:
        yield Drawn("Losses of the recovery", run_figures.training({p: reported.of_part(table, p) for p in parts}))


def _probed(results: Mapping[str, Any], plan: Plan | None, draw: Callable[[Drawn], Html]) -> Html:
    """Which layers the tasks are read from: of the mean, where there are several."""
    missing = element("p", " ".join(reported.not_probed(results)), class_="notes") if results.get("not_probed") else ""
    if not (pairs := pairs_of(results)):
        return joined(missing)
    pair = pairs[0]
    drawn = run_figures.mix(pair, plan.groups() if plan else ())
    return joined(draw(Drawn(f"{TITLE}: {pair.name}", drawn, pair.worth)), table(pair.card), missing)


# --- how it was made -------------------------------------------------------------------------------------


def _plan_text(plan: Plan, hidden: Hidden) -> Html:
    lines = [f"{place}. {words}" for place, words in enumerate(plan.in_words()[:MOST_LINES], start=1)]
    lines += _more(plan.steps, "steps")
    notes = [hidden.in_text(note) for note in plan.notes[:MOST_LINES]] + _more(plan.notes, "notes")
    text = "\n".join([*lines, *([""] if notes else []), *notes])
    return joined(element("h3", "The plan"), element("pre", text)) if text.strip() else Html("")


def _more(items: Sequence[object], what: str) -> list[str]:
    return [f"… and {len(items) - MOST_LINES:,} more {what}."] if len(items) > MOST_LINES else []


def _made(run: Run, config: RunConfig, results: Mapping[str, Any], plan: Plan | None, hidden: Hidden) -> Html:
    facts = {
        "Method": _method(config.method),
        "Model": _model(config, plan),
        "Calibrated on": _text(results.get("calibration"), config, config.text, config.n_tokens, config.seed),
        "Judged on": _text(
            results.get("evaluation"), config, config.evaluated_on, config.evaluation_tokens, config.evaluation_seed
        )
        if config.evaluate
        else "",
        "Recovered by": _recovery(config),
        "Seeds": f"{config.seed}, of the held-out text {config.evaluation_seed}",
        "Device": ", ".join(str(results[name]) for name in ("device", "dtype", "machine") if results.get(name)),
        "Time": _times(run, results),
        "Versions": ", ".join(f"{name} {version}" for name, version in (results.get("versions") or {}).items()),
        "Commit": str(results.get("commit") or ""),
        "Run": run.id,
    }
    told = [joined(element("dt", name), element("dd", value)) for name, value in facts.items() if value]
    return joined(
        element("h3", "How it was made"),
        element("dl", *told),
        element("p", "The same on the command line; folders are left out:", class_="notes"),
        element("pre", hidden.in_text(command_line(hidden.in_request(config)))),
    )


def _method(name: str) -> str:
    known = come.methods().get(name)
    if known is None:
        return name
    return f"{known.title}: {known.summary}{f' ({known.paper})' if known.paper else ''}"


def _model(config: RunConfig, plan: Plan | None) -> str:
    if plan is None:
        return short(config.model)
    about = f"{plan.base.model_type}, {plan.base.layers} layers, SHA-256 of its weights in {plan.dtype}"
    revision = f", revision {plan.base.revision}" if plan.base.revision else ""
    return f"{short(config.model)} ({about} {plan.base.fingerprint}{revision})"


def _text(told: Any, config: RunConfig, text: str, tokens: int, seed: int) -> str:
    """A text and how much of it, as results.json tells it; else as it was asked for."""
    known = told if isinstance(told, dict) else {}
    words = (
        f"{known.get('n_tokens') or tokens:,} tokens of {short(str(known.get('text') or text))} in sequences of "
        f"{known.get('seq_len') or config.seq_len}, seed {known.get('seed', seed)}"
    )
    bos = f", each after {known['bos']}" if known.get("bos") else ""
    digest = f"; SHA-256 {known['text_hash']}" if known.get("text_hash") else ""
    return f"{words}{bos}{digest}"


def _recovery(config: RunConfig) -> str:
    if not config.recover:
        return ""
    return f"{', '.join(config.recover)}, on {config.recover_tokens:,} tokens of {short(config.recovered_on)}"


def _times(run: Run, results: Mapping[str, Any]) -> str:
    """How long each stage took, and when."""
    seconds = results.get("seconds") or {}
    stages = [f"{stage} {taken:,.1f} s" for stage, taken in seconds.items() if isinstance(taken, int | float)]
    state = run.state()
    whole = f"{duration(state.finished - state.started)} in all" if state.started and state.finished else ""
    when = f"begun {datetime.fromtimestamp(state.started):%d %b %Y, %H:%M}" if state.started else ""
    return "; ".join(part for part in (", ".join(stages), whole, when) if part)
