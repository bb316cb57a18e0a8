"""A report of runs as one HTML document that needs nothing else: no server, no network, no file beside it."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from plotly.offline import get_plotlyjs

import come
from come import files
from come.errors import ComeError
from come.report import comparison, tables
from come.report.card import card_of, sentence
from come.report.comparison import Entry, run_name, short
from come.report.html.axes import Figure
from come.report.html.cards import Drawn, run_card
from come.report.html.comparison import compared, titled
from come.report.html.elements import Html, element, joined
from come.report.html.private import Hidden
from come.report.html.ribbons import PATTERNS
from come.runs import Run

HERE = Path(__file__).parent
LISTED = 3  # runs, from which on they are listed with links
MOST_CARDS = 50


def write(runs: Sequence[Run], path: Path) -> Path:
    """Write the report of runs as a file, with the folders above it.

    Raises:
        ComeError: there is such a file already; none of the runs can be reported; it cannot be written.
    """
    path = path.expanduser()
    if path.exists():
        raise ComeError(f"{path} is there already.", "Choose a new name; nothing is overwritten.")
    text = document(runs)
    with files.disk_faults(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
    files.replace(path, text)
    return path


def document(runs: Sequence[Run]) -> str:
    """The report of runs: the verdict, a card a run, charts that zoom, the plans, how all was made.

    The largest and best come first; of very many, not all have a card. What cannot be reported is left out with a
    sentence. No path of this machine is in it but for last names, and whatever somebody gave, such as a run's name, is
    escaped.

    Raises:
        ComeError: none of the runs can be reported.
    """
    told, left = _sorted_out(runs)
    if not told:
        reasons = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in left[:LISTED])
        of = f" {reasons}." if reasons else ""
        raise ComeError(f"There is nothing to report.{of}", "Choose runs that are done; `come runs` lists them.")
    groups = list(comparison.groups(comparison.entries(told)).values())
    told = _ranked(told, groups)
    drawn: dict[str, Figure] = {}
    body = element("main", *_sections(told, groups, left, _drawer(drawn)), _foot())
    title = run_name(told[0]) if len(told) == 1 else _title(told)
    return _document(title, joined(PATTERNS, body), drawn)


def _sorted_out(runs: Sequence[Run]) -> tuple[list[Run], list[tuple[str, str]]]:
    """The runs that can be reported, each once; and the names of the others, each with the reason."""
    told, left = [], []
    for run in {run.path: run for run in runs}.values():
        reason = _refused(run)
        if not reason:
            told.append(run)
            continue
        item = comparison.entry(run)
        left.append((run_name(run) if item is None else item.name, Hidden(run).in_text(reason)))
    return told, left


def _ranked(told: list[Run], groups: list[list[Entry]]) -> list[Run]:
    """Those that compare from large to small, each size from the best to the worst; then the others."""
    lines = [line.run for items in groups for line in tables.rows([item.pruned for item in items if item.pruned], [])]
    places = {run: place for place, run in reversed(list(enumerate(lines)))}
    return sorted(told, key=lambda run: places.get(run.id, len(places)))


def _refused(run: Run) -> str:
    """Why a run cannot be reported; "" where it can."""
    try:
        run.check()
        if run.config.kind != "compress":
            return "it measures a model and prunes none"
        run.plan()
    except ComeError as error:
        return f"unreadable: {error.what}"
    item = comparison.entry(run)
    if run.state().status != "done":
        return item.reason if item else run.state().status
    return "" if card_of(run.results()) else "it holds no result"


# --- parts of the document -------------------------------------------------------------------------------


def _title(told: Sequence[Run]) -> str:
    models = list(dict.fromkeys(short(run.config.model) for run in told))
    of = models[0] if len(models) == 1 else f"{len(models)} models"
    return f"{len(told)} runs of {of}"


def _sections(
    told: list[Run], groups: list[list[Entry]], left: Sequence[tuple[str, str]], draw: Callable[[Drawn], Html]
) -> list[Html]:
    groups = [items for items in groups if _several(items)]
    alone, carded = len(told) == 1, told[:MOST_CARDS]
    numbers = {run.path: number for number, run in enumerate(told, start=1)}
    head = [element("h1", run_name(told[0]) if alone else _title(told))]
    if alone:
        head.append(element("p", sentence(told[0].results()), class_="lead"))
    elif groups:
        about = titled(groups[0]) if len(groups) == 1 else f"Compared in {len(groups)} groups, each on one text"
        head.append(element("p", f"{about}.", class_="notes"))
    parts = [element("header", *head)]
    parts += [element("div", *_left_out(left), class_="left")] if left else []
    parts += [compared(items, len(groups) == 1, draw) for items in groups]
    if len(told) >= LISTED:
        links = [element("li", element("a", run_name(run), href=f"#run-{numbers[run.path]}")) for run in carded]
        some = f"Of {len(told)} runs, the first {MOST_CARDS} have a card below." if len(told) > MOST_CARDS else ""
        parts.append(element("nav", element("h2", "The runs"), element("p", some), element("ol", *links)))
    return [*parts, *(run_card(run, numbers[run.path], not alone, draw) for run in carded)]


def _several(items: Sequence[Entry]) -> bool:
    return len({item.run.path for item in items}) > 1


def _left_out(left: Sequence[tuple[str, str]]) -> list[Html]:
    """A sentence for each run that is not in the report."""
    return [element("p", f"{name} is left out: {reason.rstrip('.')}.") for name, reason in left]


def _drawer(drawn: dict[str, Figure]) -> Callable[[Drawn], Html]:
    """Makes the elements of charts, and keeps what is drawn in them."""

    def draw(each: Drawn) -> Html:
        name = f"chart-{len(drawn) + 1}"
        drawn[name] = each.figure
        style = f"height: {each.figure['layout']['height']}px"
        place = element("div", id=name, class_="chart", style=style, role="img", aria_label=each.title)
        notes = element("figcaption", each.notes) if each.notes else Html("")
        return element("figure", element("h4", each.title), place, notes)

    return draw


def _foot() -> Html:
    hint = "Drag over a chart to zoom, double-click it to go back; point at anything for its numbers."
    made = f"Written by CoMe Lab {come.__version__} on {datetime.now():%d %b %Y}. "
    return element(
        "footer",
        element("p", hint, class_="hint"),
        element("p", made, "It needs no network, nor any file beside it."),
        element("noscript", element("p", "The charts are drawn by a script in this file, which does not run here.")),
    )


def _document(title: str, body: Html, drawn: dict[str, Figure]) -> str:
    """The whole, with styles and scripts in it; what it holds may load nothing and run no other script."""
    scripts = _scripts()
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = json.dumps(drawn, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{title} · CoMe Lab"),
        Html(f"<style>{(HERE / 'page.css').read_text('utf-8')}</style>"),
    )
    ends = [Html(f'<script type="application/json" id="figures">{data}</script>')]
    ends += [Html(f"<script>{script}</script>") for script in scripts]
    return f"<!DOCTYPE html>\n{element('html', head, element('body', body, *ends), lang='en')}\n"


@cache
def _scripts() -> tuple[str, ...]:
    """plotly.js whole, and what draws the charts with it."""
    return str(get_plotlyjs()), (HERE / "draw.js").read_text("utf-8")


@cache
def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
