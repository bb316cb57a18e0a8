"""What the plan page asks the resident process: which question a plan is, about which model and text; and asking it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from app.components.background_job import Job
from app.plan import edits
from app.state import request
from app.state.choice import Choice, Draft, by_hand
from come.errors import ComeError
from come.estimation.cost import estimate
from come.estimation.device import known_device
from come.models import Facts
from come.models.catalogue import BUNDLED
from come.models.facts import BYTES
from come.pruning.forecast import Forecast
from come.pruning.registry import fits_windows
from come.request import anchored_path, anchored_text
from come.runs import Run
from come.serving.cancellation import Cancelled
from come.serving.resident import client
from come.serving.whatif.answer import Answer, Suggestion
from come.serving.whatif.question import Merge, Question, Subject

LARGE = 1.5e9  # parameters; a model with more of them is asked about only when the visitor says so
MEASURED_TOKENS = 4096  # at most, where no analysis is there
FORESEEN = ("exponent", "floor")  # options of CoMe that a question carries
# Options that change the outcome and that a question lacks.
SET_ASIDE = {"refit": "the refit", "sweep": "the pass over all output maps"}
AS_USUAL = ("attention", "lookahead", "strengths")  # options of a fit, which is predicted with their defaults


def why_ask_first(draft: Draft, facts: Facts) -> str:
    """Why the visitor must press "Predict", in one sentence; empty where a prediction is made at once."""
    if facts.parameters > LARGE:
        return f"With {facts.parameters / 1e9:.1f} B parameters, loading and running this model takes a while."
    if anchored_path(facts.source) == facts.source != BUNDLED and not Path(facts.source).exists():
        return "A model of the hub may have to be downloaded first."
    if draft == Draft():
        return "This is the starting plan. As soon as you change it, the new plan is predicted."
    return ""


def question(draft: Draft, found: Forecast | None) -> Question:
    """The edits of a plan.

    Args:
        draft: the plan.
        found: what is foreseen of it, if it is not by hand; a plan by hand says it all itself.

    Raises:
        ComeError: an option has a value that it cannot have.
    """
    options = {name: draft.options[name] for name in FORESEEN if draft.options.get(name) is not None}
    try:
        return Question(merges=_merges(draft, found), dropped=_dropped(draft, found), **options)
    except ValueError:
        raise ComeError("The settings of the method are out of range.", "Set them back to their defaults.") from None


def _dropped(draft: Draft, found: Forecast | None) -> tuple[int, ...]:
    return tuple(found.removed) if draft.windows is None and found else draft.dropped


def _merges(draft: Draft, found: Forecast | None) -> tuple[Merge, ...]:
    if draft.windows is not None:
        ratios: Sequence[tuple[float, ...] | None] = draft.ratios or [None] * len(draft.windows)
        how: Literal["fit", "concatenate"] = "fit" if fits_windows(draft.method) else "concatenate"
        return tuple(
            Merge(first=first, last=last, ratio=ratio, how=how)
            for (first, last), ratio in zip(draft.windows, ratios, strict=True)
        )
    if found is not None and found.fitted:
        return tuple(Merge(first=window.first, last=window.last, how="fit") for window in found.windows)
    # A window of one step has the ratio that the engine finds by itself; one of several steps is drafted.
    span = int(draft.options.get("span", 2))
    return tuple(
        Merge(
            first=window.first,
            last=window.last,
            ratio=window.ratio if window.last - window.first + 1 > span else None,
        )
        for window in (found.windows if found else [])
    )


def subject(choice: Choice, analysis: Run | None) -> Subject:
    """The model and the held-out text of a choice.

    Args:
        choice: what the visitor chose.
        analysis: the run whose analysis says which channels matter; None to have the model measured.
    """
    return Subject(
        model=anchored_path(choice.model),
        text=anchored_text(choice.text),
        seq_len=max(choice.seq_len, 2),
        seed=choice.seed,
        bos=choice.bos,
        analysis=None if analysis is None else str((Path(analysis.path) / "analysis.safetensors").absolute()),
        measured_tokens=max(min(choice.tokens, MEASURED_TOKENS), 2),
        measured_seq_len=max(choice.seq_len, 2),
    )


def measuring_seconds(choice: Choice, facts: Facts) -> float | None:
    """How long the one measuring pass will take, by this machine's remembered speed; None where that is not known."""
    device = known_device(facts.dtype if facts.dtype in BYTES else "float32")
    if device is None:
        return None
    with suppress(ComeError):
        asked = request.analysis(replace(choice, tokens=min(choice.tokens, MEASURED_TOKENS)))
        config = asked.model_copy(update={"similarity": []})  # the resident process measures without
        return estimate(config, facts, device).seconds_by_stage.get("measure")
    return None


def with_window(draft: Draft, found: Forecast | None, first: int, last: int) -> Draft:
    """The draft with one more window; one that is not by hand becomes so, of what is foreseen of it and this one."""
    chosen = draft.windows if draft.windows is not None else edits.chosen(found or Forecast())
    ratios = None
    if draft.windows is not None and draft.ratios is not None:
        ratios = [*draft.ratios, edits.equal(last - first + 1)]
    together = [*chosen, (first, last)]
    order = sorted(range(len(together)), key=together.__getitem__)
    in_order = None if ratios is None else [ratios[i] for i in order]
    return by_hand(draft, [together[i] for i in order], in_order, _dropped(draft, found))


# --- asking ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Predicted:
    """What a plan would come to, and the original on the same tokens.

    Attributes:
        run: that measured it; "" where it is predicted.
    """

    original: Answer
    answer: Answer
    run: str = ""


class Prediction(Job):
    """The question what a plan comes to; its outcome is a ``Predicted``.

    Attributes:
        first: the same on few tokens, as soon as it is known.
    """

    first: Predicted | None = None


def predict(about: Subject, asked: Question, visitor: str, key: str) -> Prediction:
    """Ask what a question's edits come to: on a few tokens first, then on those that a run is judged on."""
    job = Prediction(key)

    def answer(about: Subject, asked: Question) -> Answer:
        found: Answer = _until_answered(job, lambda: client.whatif(about, asked, key=visitor, on_progress=job.told))
        return found

    def both() -> Predicted:
        few = about.first_look()
        if few.n_tokens < about.n_tokens:
            job.first = Predicted(answer(few, Question()), answer(few, asked))
            job.event = None  # that was the first look's
        return Predicted(answer(about, Question()), answer(about, asked))

    job.begin(both)
    return job


def suggest(about: Subject, asked: Question, visitor: str, key: str) -> Job:
    """Ask for the next window by SBI; ``job.outcome`` becomes a ``Suggestion``."""
    job = Job(key)

    def best() -> Suggestion:
        found: list[Suggestion] = _until_answered(
            job, lambda: client.suggest(about, asked, key=visitor, on_progress=job.told)
        )
        return found[0]

    return job.begin(best)


def _until_answered(job: Job, ask: Callable[[], Any]) -> Any:
    """Ask; and ask again where an older question of this visitor was still being put, unless this one is old by now."""
    while True:
        job.go_on()
        try:
            return ask()
        except Cancelled:
            continue
