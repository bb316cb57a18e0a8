"""What a prediction says, in words and as rows of a table. Pure functions of answers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import escape

from app.components import glossary
from app.formats import percent
from app.plan.whatif.ask import Predicted
from come.events import Event
from come.report.metrics import factor, number
from come.serving.whatif.answer import Change, Suggestion, change
from come.serving.whatif.question import Subject

CLEAR = 2.0  # a change of fewer standard errors than this is not told as one
EMPTY = "…"

HOW = rf"""
The plan's model is built and read over held-out text: text that calibration never sees. Layers below the first
changed one are the original's, so only those above it are run.
{glossary.PERPLEXITY}{glossary.KL}
The **±** is one standard error over sequences.

**Speed-up**, an estimate: the weights that each token is multiplied with, the original's over the plan's.

**A change** is taken sequence by sequence on the same text, so its error is far smaller than those of the two
perplexities. *Stable* means that both halves of the text say the same direction.
"""


@dataclass(frozen=True)
class Row:
    """One measure: of the original, of the plan, the plan against the original, and against the last answered plan."""

    name: str
    unit: str
    original: str
    plan: str
    against: str
    since: str


STAGES = {
    "load": "Loading the model",
    "convert": "Preparing the model",
    "original": "Running the original once",
    "predict": "Running the plan",
}
NATS_HELD_OUT = "nats per token, held-out text"  # windows' costs beside it are of other text
TOLD = {NATS_HELD_OUT: f"How far next-token predictions move from the original's. {glossary.NATS}"}
MEASURES = (
    ("Perplexity", ""),
    ("Divergence (KL)", NATS_HELD_OUT),
    ("Speed-up", "estimate"),
)


def rows(found: Predicted | None, before: Predicted | None = None) -> list[Row]:
    """The table of a prediction; of none, the same rows without numbers, so that nothing jumps."""
    if found is None:
        return [Row(name, unit, EMPTY, EMPTY, "", "") for name, unit in MEASURES]
    original, now, last = found.original, found.answer, before.answer if before else None
    of_all, of_last = change(original, now), change(last, now) if last else None
    cells = (
        (
            with_error(original.perplexity, original.perplexity_stderr),
            with_error(now.perplexity, now.perplexity_stderr),
            times(of_all.ratio),
            _since(of_last) if of_last else "",
        ),
        (
            "0",
            with_error(now.kl, now.kl_stderr, places=3),
            "",
            signed(now.kl - last.kl, 3) if last else "",
        ),
        (
            "1.00 ×",
            f"{now.speed_up:.2f} ×",
            percent(now.speed_up - 1),
            _share(now.speed_up, last.speed_up) if last else "",
        ),
    )
    return [Row(name, unit, *each) for (name, unit), each in zip(MEASURES, cells, strict=True)]


def first_rows(found: Predicted) -> list[Row]:
    """The table of a first look: about how many times as much, and on how few tokens; the rest is to come.

    A perplexity of few tokens is not the one that stands under this name a second later.
    """
    perplexity, kl, speed = rows(found)
    on, times_as_much = f"on {found.answer.tokens:,} tokens", f"about {_rough(found)} ×"
    return [
        replace(perplexity, unit=on, original=EMPTY, plan=EMPTY, against=times_as_much),
        replace(kl, plan=EMPTY),
        speed,
    ]


def finding(found: Predicted) -> str:
    """What the plan does to the model, in one sentence."""
    before, after = found.original, found.answer
    if after.layers == before.layers:
        return f"Nothing is merged or dropped: perplexity stays {number(before.perplexity)}."
    of_all = change(before, after)
    known = "Measured" if found.run else "Predicted"
    told = f"{known} perplexity {number(before.perplexity)} → {number(after.perplexity)}: "
    told += f"{factor(of_all.ratio)} times as high"
    return told if found.run else f"{told}, at {after.speed_up:.2f} times the speed"


def first_look(found: Predicted, subject: Subject, event: Event | None) -> str:
    """What few tokens say, until those are read that a run is judged on; and how far that is."""
    return (
        f"First look, on only {found.answer.tokens:,} tokens: about {_rough(found)} times the perplexity there. "
        f"The {subject.n_tokens:,} that a run is judged on follow{_doing(event)}…"
    )


def _doing(event: Event | None) -> str:
    """What is being done behind a first look: " (running the plan, 40%)"; "" where nothing was told yet."""
    if event is None or event.stage not in STAGES:
        return ""
    words = STAGES[event.stage]
    return f" ({words[:1].lower()}{words[1:]}{_share_done(event)})"


def _share_done(event: Event) -> str:
    return f", {event.step / event.of:.0%}" if event.of else ""


def _rough(found: Predicted) -> str:
    """How many times as high the perplexity of a first look is: in two digits, or as many as tell it from 1."""
    ratio = change(found.original, found.answer).ratio
    texts = [factor(ratio)] if ratio >= 100 else [f"{ratio:.{digits}g}" for digits in (2, 3, 4)]
    return next((text for text in texts if text != "1"), "1.000")


def against(name: str, of: Change) -> str:
    """A change in one sentence, with its error and whether the halves of the text agree (markdown)."""
    if of.loss == 0 and of.halves == (0, 0):
        return f"Against {name}: no difference."
    error = f" ± {of.stderr:.3f}" if math.isfinite(of.stderr) else ""
    told = f"Against {name}: {signed(of.loss, 3)}{error} nats per token"
    halves = " and ".join(signed(half, 3) for half in of.halves)
    if not all(map(math.isfinite, of.halves)):
        return f"{told}. One sequence alone cannot say how stable that is."
    if not of.stable:
        return f"{told}. **Not stable**: the halves of the text disagree ({halves}). Read it as no clear difference."
    if math.isfinite(of.stderr) and abs(of.loss) < CLEAR * of.stderr:
        return f"{told}. Both halves of the text agree ({halves}), but it is within {CLEAR:g} standard errors."
    return f"{told}; stable: both halves of the text agree ({halves})."


def judged_on(found: Predicted) -> str:
    """On what, and how long it took."""
    answer = found.answer
    text = (
        f"{'Measured by its run on' if found.run else 'On'} {answer.tokens:,} held-out tokens; ± is one standard error"
    )
    if answer.cached or answer.start >= found.original.layers:
        return f"{text}."
    return f"{text}. Layers {answer.start}–{found.original.layers - 1} were run anew in {answer.seconds:.1f} s."


def next_window(hint: Suggestion, now: Predicted | None) -> str:
    """What the next window by SBI would cost (markdown)."""
    cost = f"perplexity {with_error(hint.answer.perplexity, hint.answer.perplexity_stderr)}"
    if now is not None:
        cost += f", {times(change(now.answer, hint.answer).ratio)} this plan's"
    return (
        f"**Next by skip block influence (SBI): layers {hint.first}–{hint.last}** ({hint.skip_influence:.4f}). "
        f"With them merged: {cost}; "
        f"KL {with_error(hint.answer.kl, hint.answer.kl_stderr, places=3)} nats per token; "
        f"{hint.answer.layers} layers left."
    )


def how_stable(hint: Suggestion) -> str:
    """Whether each half of the calibration text would have chosen the same window."""
    first, second = hint.ranks
    if hint.ranks == (1, 1):
        return f"Stable: each half of the calibration text ranks it first of {hint.free} free windows."
    return (
        f"Not stable: of {hint.free} free windows, one half of the calibration text ranks it {_place(first)}, "
        f"the other {_place(second)} (SBI {hint.skip_influence_halves[0]:.4f} and {hint.skip_influence_halves[1]:.4f})."
    )


def status(event: Event | None, measuring: float | None, seconds: float) -> str:
    """What is going on while a question is open.

    Args:
        event: what was last reported; None where only the plan is run.
        measuring: how long the measuring pass takes, in seconds, if that is known.
        seconds: since the question was put.
    """
    if event is None:
        return "Predicting" + (f", {seconds:.0f} s" if seconds >= 2 else "") + "…"
    share = _share_done(event)
    if event.stage == "measure":
        about = f", about {max(round(measuring), 1)} s" if measuring is not None else ""
        return f"Measuring the model once{about}{share}…"
    if event.stage == "fit":  # of few windows, each long
        place = f" ({event.step + 1} of {event.of})" if event.of > 1 else ""
        return f"{event.message}{place}, {seconds:.0f} s…"
    return f"{STAGES.get(event.stage, event.message or 'Predicting')}{share}…"


def table(of: Sequence[Row], now: str, last: str | None, stale: bool = False, busy: bool = False) -> str:
    """Rows as HTML.

    Args:
        of: the rows.
        now: what the plan is called.
        last: what the plan answered before is called; None without one.
        stale: the numbers are not those of the plan as it stands.
        busy: those are on their way; the panel keeps the height that it will have then.
    """
    heads = ["", "Original", now, "Change", *([f"Against {last}"] if last else [])]
    head = "".join(f"<th scope='col'>{escape(word)}</th>" if word else "<td></td>" for word in heads)
    body = "".join(
        f"<tr><th scope='row'>{escape(row.name)}{_unit(row.unit)}</th>"
        f"<td>{escape(row.original)}</td><td><b>{escape(row.plan)}</b></td><td>{escape(row.against)}</td>"
        f"{f'<td>{escape(row.since)}</td>' if last else ''}</tr>"
        for row in of
    )
    dim = " class='stale'" if stale else ""
    wait = f" {'again' if last else 'first'}' aria-busy='true" if busy else ""
    return (
        f"<div class='come-whatif{wait}'><table{dim}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _unit(unit: str) -> str:
    """A unit behind its measure, as HTML; pointed at, it says what it is."""
    told = escape(TOLD.get(unit, ""), quote=True)
    shown = f"<span class='come-told' title='{told}'>{escape(unit)}</span>" if told else escape(unit)
    return f" <small>{shown}</small>" if unit else ""


STYLE = """<style>
.come-whatif { overflow-x: auto; }
.come-whatif table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
.come-whatif :is(th, td) { text-align: right; padding: .3rem 0 .3rem .75rem; vertical-align: baseline; }
.come-whatif tbody tr { border-top: 1px solid var(--come-line); }
.come-whatif th { font-weight: 400; }
.come-whatif th[scope=row] { text-align: left; padding-left: 0; }
.come-whatif thead th, .come-whatif small { font-size: .8rem; opacity: .78; }
.come-whatif b { font-weight: 600; }
.come-whatif .stale tbody td { opacity: .45; }
.st-key-plan-verdict .come-finding { font-size: 1.1rem; }
.st-key-whatif > :has(> .st-key-whatif-run) { margin-top: auto; }
.st-key-whatif:has(.come-whatif.first) { min-height: 18.5rem; }
.st-key-whatif:has(.come-whatif.again) { min-height: 22.5rem; }
@media (max-width: 640px) {
  .come-whatif table { font-size: .8rem; }
  .come-whatif td:not(:last-child) { white-space: nowrap; }
  .come-whatif :is(th, td) { padding-left: .4rem; }
  .come-whatif th small { display: block; }
  .st-key-whatif:has(.come-whatif.first) { min-height: 21rem; }
  .st-key-whatif:has(.come-whatif.again) { min-height: 26rem; }
  /* The answer stays in sight of whatever control changes it. */
  .st-key-plan-verdict { position: fixed; inset: auto 0 0; z-index: 50; width: auto !important; padding: .5rem 1rem;
    background: Canvas; border-top: 1px solid var(--come-line); }
  .st-key-plan-verdict .come-finding { min-height: 2.6rem; margin: 0; font-size: .95rem; }
  .stApp [data-testid="stMainBlockContainer"] { padding-bottom: 6rem; }
}
</style>"""


def with_error(value: float, stderr: float, places: int | None = None) -> str:
    """A value and its standard error, as far as there is one: "15.1 ± 0.9"."""
    if places is None:
        shown, error = number(value), f"{stderr:.1f}" if value < 100 else number(stderr)
    else:
        shown, error = f"{value:.{places}f}", f"{stderr:.{places}f}"
    return f"{shown} ± {error}" if math.isfinite(stderr) else shown


def times(ratio: float) -> str:
    """1.234 -> "1.23 ×"."""
    return f"{factor(ratio)} ×"


def signed(value: float, places: int) -> str:
    """With its sign, a true minus: "−0.012"."""
    return f"{value:+.{places}f}".replace("-", "−")


def _since(of: Change) -> str:
    return times(of.ratio) + ("" if of.stable or of.loss == 0 else " unstable")


def _share(now: float, last: float) -> str:
    share = now / last - 1
    return "same" if abs(share) < 5e-4 else f"{share:+.1%}".replace("-", "−")


def _place(rank: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(rank if rank < 20 else rank % 10, "th")
    return f"{rank}{ending}"
