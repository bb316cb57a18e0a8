"""Auto (ours): the best of several methods' plans by what they cost on tokens apart, then steps exchanged.

Every method that states it belongs to the portfolio makes its plan, the one with least work first; removals with a
refit. The models are scored by their divergence from the original on tokens that no map is fitted on; all output maps
of the best few are moved towards the original's states, and they are scored again. Then a step of the best plan at a
time is taken back, and the cheapest change of the model that is left takes its place, as long as that scores better (a
search in the manner of EvoPress, arXiv 2410.14649).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

from pydantic import Field
from torch import Tensor

from come.errors import ComeError
from come.events import Event, OnProgress, emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle, Facts
from come.plan.plan import Plan
from come.plan.steps import Replace
from come.pruning import registry
from come.pruning.cheapest import cheapest_change
from come.pruning.forecast import Known
from come.pruning.joint_rules import JointRules
from come.pruning.method import Method, Task
from come.pruning.options import MethodOptions, ScoredOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule, together
from come.pruning.scoring import Scorer
from come.pruning.sweep import sweep_products, swept
from come.pruning.take_back import one_by_one, without
from come.transforms.compatible import longest_window
from come.transforms.rebuild import with_plan

FEW = 2048  # calibration tokens of a method that runs the layers and the head for many candidates
FINALISTS = 2  # whose maps are moved
SHARED = ("score", "scoring_tokens", "batch_size", "memory_budget")
GIVEN = {"refit": True, "sweep": False}  # the pass over all output maps is made of every plan
MEASURED = {"kl": "divergence from the original in nats a token", "loss": "loss in nats a token"}


class AutoOptions(ScoredOptions):
    """Which methods are tried, and how long steps are exchanged."""

    methods: list[str] | None = Field(
        None, description="The methods to choose from, by name; empty for those that state they belong to a portfolio."
    )
    exchanges: int = Field(
        4, ge=0, description="How often a step of the best plan is taken back to see whether another does better."
    )
    minutes: float | None = Field(
        None, gt=0, description="After so many minutes nothing new is begun; one plan is always made. Empty: no limit."
    )

    def eliminated(self, facts: Facts, span: int) -> int:
        """The most of any of its methods."""
        return max(each.options.eliminated(facts, span) for each in members(self))

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse names of no method, of one that keeps all layers, and its own."""
        for each in members(self):
            if each.method.target != "layers" or isinstance(each.options, AutoOptions):
                raise ComeError(
                    f"{each.method.title} is none that auto can choose from.", "Name methods that leave so many layers."
                )


@dataclass(frozen=True)
class _Tried:
    """A plan that was made, its score, and score, model and plan after a pass over all output maps, if one was made."""

    title: str
    score: float
    bundle: Bundle
    plan: Plan
    history: list[StepRecord]
    swept: tuple[float, Bundle, Plan] | None = None

    @property
    def final(self) -> tuple[float, Bundle, Plan]:
        """The best of both."""
        return self.swept or (self.score, self.bundle, self.plan)


@dataclass(frozen=True)
class _Member:
    """A method of the portfolio, with its options.

    Attributes:
        scores: whether it parts the tokens itself, as Auto does.
        searches: whether it runs the layers and the head for many candidates: it is given few tokens.
    """

    method: Method
    options: MethodOptions

    @property
    def scores(self) -> bool:
        return isinstance(self.options, ScoredOptions)

    @property
    def searches(self) -> bool:
        return "logits" in self.method.needs_with(self.options) and not self.scores

    def tokens(self, whole: Tensor, fitted: Tensor) -> Tensor:
        """The sequences that its plan is made on."""
        if self.scores:
            return whole
        return fitted[: max(2, FEW // fitted.shape[1])] if self.searches else fitted


def members(options: AutoOptions) -> list[_Member]:
    """The methods to try with their options, removals with a refit."""
    known = registry.methods()
    found = []
    for name in options.methods if options.methods is not None else known:
        method = registry.method(name)
        if method.portfolio is None and options.methods is None:
            continue
        fields = method.options.model_fields
        shared = {name: getattr(options, name) for name in SHARED if name in fields}
        given = shared | {name: value for name, value in GIVEN.items() if name in fields} | dict(method.portfolio or {})
        found.append(_Member(method, method.parse(given)))
    # One pass first, then what scores changes itself, then the searches.
    return sorted(found, key=lambda each: (each.method.stepwise, not each.scores, each.searches))


def work(known: Known, options: AutoOptions, tokens: Calibration) -> Schedule:
    """That of all methods, a pass over all output maps of each plan, and a step's search for each exchange."""
    step = Known(known.model, known.layers - 1)
    parts: list[tuple[Schedule, int]] = []
    for each in members(options):
        count = min(FEW, tokens.n_tokens) if each.searches else tokens.n_tokens
        own = replace(tokens, n_tokens=count)
        parts.append((each.method.schedule(known, each.options, own), count))
        if each.scores:
            parts += [(each.method.schedule(step, each.options, own), count)] * options.exchanges
    left, sweeps = known.target_layers, FINALISTS + bool(options.exchanges)
    products = sweeps * left * sweep_products(known.model, tokens.n_tokens)
    parts.append((Schedule(unmeasured=sweeps * (known.layers + 4.0 * left), products=products), tokens.n_tokens))
    return together(parts, tokens.n_tokens)


@register(
    "auto",
    title="Auto",
    paper="Ours, after Sieberling et al. 2024, arXiv 2410.14649",
    summary="Make the plans of several methods, keep the one nearest to the original on tokens apart, and exchange "
    "steps of it as long as that helps.",
    kind="merge",
    options=AutoOptions,
    needs=("forward", "logits"),
    cost="What the methods cost that it chooses from, and a step of CoMe-Joint for each exchange.",
    work=work,
)
def auto(task: Task, options: AutoOptions) -> Result:
    """The best plan of the portfolio, improved."""
    if len(task.current.layers) == task.target_layers:
        return Result(task.current, task.plan)
    fitted, scoring = options.split(task.tokens)
    scorer = Scorer(task.original, scoring, options.score, options.batch_size, options.memory_budget)
    ends = time.perf_counter() + 60 * options.minutes if options.minutes is not None else math.inf
    tried, notes = _portfolio(task, options, fitted, scorer, ends)
    ranked = sorted(tried, key=lambda each: each.score)
    for place, each in enumerate(ranked[:FINALISTS]):
        emit(task.on_progress, "compress", 850 + 25 * place, 1000, f"{each.title}: all output maps are moved")
        moved = swept(task.original, each.bundle, each.plan, task.tokens, scorer, **options.running())
        ranked[place] = replace(each, swept=moved)
    ranked.sort(key=lambda each: each.final[0])
    best = ranked[0]
    scores = ", ".join(f"{each.title} {each.final[0]:.4f}" for each in ranked)
    notes.append(
        f"Auto took the plan of {best.title}. The {MEASURED[options.score]}, of the best {FINALISTS} with a pass over "
        f"all output maps: {scores}."
    )
    exchanged, taken, looked = _exchanged(task, options, fitted, scorer, best, ends)
    score, bundle, plan = best.final
    if taken:
        new = swept(task.original, exchanged.bundle, exchanged.plan, task.tokens, scorer, **options.running())
        gain = f", which took it from {score:.4f} to {min(score, new[0]):.4f}"
        score, bundle, plan = min((score, bundle, plan), new, key=lambda each: each[0])
        notes.append(f"Auto tried another change in the place of {looked} of its steps and kept {taken}{gain}.")
    elif looked:
        notes.append(f"Auto tried another change in the place of {looked} of its steps, and none was better.")
    plan = plan.with_notes(notes)
    task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, notes[-1], layers=len(bundle.layers), score=score)
    return Result(with_plan(bundle, plan), plan, exchanged.history)


def _portfolio(
    task: Task, options: AutoOptions, fitted: Tensor, scorer: Scorer, ends: float
) -> tuple[list[_Tried], list[str]]:
    """The plans that were made before the time was over, at least one; and what was left out."""
    tried: list[_Tried] = []
    notes: list[str] = []
    todo = members(options)
    for number, member in enumerate(todo):
        title = member.method.title
        if tried and time.perf_counter() > ends:
            left_out = ", ".join(each.method.title for each in todo[number:])
            notes.append(f"The time was over before these were tried: {left_out}.")
            break
        part = replace(
            task,
            current=task.original,
            tokens=member.tokens(task.tokens, fitted),
            on_progress=_part(task.on_progress, title, number, len(todo) + bool(options.exchanges)),
            on_step=None,
        )
        try:
            member.options.check_sequences(len(part.tokens))
            member.options.check(task.original, len(task.original.layers), task.target_layers)
        except ComeError as error:
            notes.append(f"{title} could not be tried: {error.what}")
            continue
        result = member.method.function(part, member.options)
        scorer.after_change(0)
        score = scorer(LayerRunner(result.bundle))
        tried.append(_Tried(title, score, result.bundle, result.plan, result.history))
    if not tried:
        raise ComeError("None of the methods could make a plan.", " ".join(notes))
    return tried, notes


def _exchanged(
    task: Task, options: AutoOptions, fitted: Tensor, scorer: Scorer, best: _Tried, ends: float
) -> tuple[_Tried, int, int]:
    """The plan after exchanges of its steps, how many were kept and how many were looked at."""
    plan = one_by_one(best.plan)
    if plan is None or len(_changes(plan)) < 2:  # in the place of the only one comes what CoMe-Joint made already
        return best, 0, 0
    taken = looked = place = 0
    while looked < options.exchanges and time.perf_counter() < ends:
        steps = _changes(plan)
        if place >= len(steps):
            break
        shorter = without(task.original, plan, steps[place])
        place += 1
        if shorter is None:
            continue
        size = len(shorter[0].layers) - task.target_layers + 1
        if longest_window(shorter[0], len(shorter[0].layers), size) < size:
            continue
        scorer.after_change(0)
        borders = HiddenStateCache.of(task.original, fitted, options.memory_budget)
        change = cheapest_change(
            shorter[0],
            scorer,
            fitted,
            borders,
            JointRules(),
            smallest=size,
            largest=size,
            batch_size=options.batch_size,
        )
        looked += 1
        message = f"Exchange {looked} of {options.exchanges}: {change.score:.4f} beside {best.score:.4f}"
        emit(task.on_progress, "compress", 900 + 90 * looked // options.exchanges, 1000, message)
        if change.score < best.score:
            bundle, plan = change.take(*shorter)
            history = [*best.history, StepRecord(change.window, change.ratio)]
            best = replace(best, score=change.score, bundle=bundle, plan=plan, history=history)
            taken, place = taken + 1, 0
    return best, taken, looked


def _changes(plan: Plan) -> list[int]:
    """Which steps take layers away."""
    return [at for at, step in enumerate(plan.steps) if not isinstance(step, Replace)]


def _part(on_progress: OnProgress, title: str, number: int, of: int) -> OnProgress:
    """Progress of one method as progress of all."""
    if on_progress is None:
        return None

    def report(event: Event) -> None:
        share = (number + event.step / event.of) / of
        emit(on_progress, "compress", round(850 * share), 1000, f"{title}: {event.message}")

    return report
