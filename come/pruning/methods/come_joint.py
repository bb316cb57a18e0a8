"""CoMe-Joint (ours): a window by what its merge costs, channels of all its layers chosen together, maps moved.

The windows of that many layers whose block influence is least in sum, but for one layer's, are merged
(``come.pruning.joint``). The one nearest to the original on all calibration tokens is taken; or, in its place, all but
its dearest layer are removed with the same refit, where that scores better on tokens that no map is fitted on.

With a span, windows are no longer than that, and one is merged after the other. Around the layers that cost least when
they are left out in turn, windows of all sizes are tried, and plain removals are among the candidates: no step is worse
on the scoring tokens than the removal of any layer that was looked at. All scores are taken anew after each step.

With windows by hand, each is fitted likewise, the lowest first, and nothing else is tried.
"""

from __future__ import annotations

import time
from dataclasses import replace

from pydantic import Field, model_validator
from torch import Tensor

from come.errors import ComeError
from come.events import emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Bundle, Facts
from come.plan.plan import Plan
from come.pruning.cheapest import cheapest_change
from come.pruning.forecast import UNITS, Forecast, Known, fitting, named
from come.pruning.joint_by_hand import fitted_by_hand
from come.pruning.joint_rules import AttentionOf, JointRules, fit_products
from come.pruning.method import Task
from come.pruning.options import ByHandOptions, ScoredOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.pruning.scoring import Scorer
from come.pruning.sweep import is_swept, output_parameters, sweep_products, swept
from come.pruning.windows import window_size, window_sizes
from come.transforms.compatible import longest_window
from come.transforms.rebuild import with_plan

SWEEP_SHARE = 400  # of a thousand, by the time that it takes on a processor
ENOUGH, ENOUGH_EACH = 4096, 4  # tokens for the pass: more than so many in all, so many for each FFN channel


class ComeJointOptions(ByHandOptions, ScoredOptions):
    """How many windows are tried, or which are merged, and how they are merged and scored."""

    span: int | None = Field(
        None,
        ge=2,
        description="How many adjacent layers one merge takes at most, step by step; empty: as many as the target "
        "needs, in a single merge, which loses less on the models that were tried.",
    )
    windows_tried: int = Field(2, ge=1, description="How many windows are merged and scored at each step.")
    layers_tried: int = Field(
        12,
        ge=1,
        description="With a span: how many layers, those of lowest block influence, are left out in turn to find them.",
    )
    strengths: tuple[float, ...] = Field(
        (0.3,),
        min_length=1,
        description="How strongly output maps are held to their own weights; the best by score is taken.",
    )
    sweep: bool | None = Field(
        None,
        description="At the end, moves the output maps of all layers from the bottom up, towards what the original "
        "gives; taken if it scores better. Empty: where there are tokens enough for it.",
    )
    lookahead: float = Field(
        0.1,
        ge=0,
        description="How strongly the prediction of what later layers of a window read, of what enters it, is held to "
        "the states as they are; 0 for no prediction.",
    )
    attention: AttentionOf = Field(
        "first",
        description="Which attention a merged layer has: first, the whole attention of its window's first layer, which "
        "reads what it read before; or chosen, KV groups of all layers.",
    )

    @model_validator(mode="after")
    def _span_goes_without_windows(self) -> ComeJointOptions:
        if self.windows is not None and self.span is not None:
            raise ComeError("A span makes no sense with windows by hand.", "Leave one of them out.")
        return self

    def rules(self) -> JointRules:
        """How windows are fitted."""
        return JointRules(self.strengths, lookahead=self.lookahead, attention=self.attention)

    def eliminated(self, facts: Facts, span: int) -> int:
        """Those of the FFNs that add most, or of all of a short window's."""
        return min(self.span or span, self.rules().pool) * facts.intermediate_size

    def chooses(self, layers: int, target: int) -> bool:
        """Whether one window of more than two layers is chosen out of several."""
        several = self.windows is None and self.windows_tried > 1
        return several and self.span is None and layers - target > 1

    @property
    def scores_as_measured(self) -> bool:
        """Whether a window's merge scores as ``come.pruning.window_costs`` says, with what these options have."""
        usual = type(self)()
        names = ("score", "scoring_tokens", "strengths", "lookahead", "span", "attention")
        return all(getattr(self, name) == getattr(usual, name) for name in names)

    @property
    def one_by_one(self) -> bool:
        """The pass over all output maps and a single window are for one target."""
        return self.sweep is False and self.span is not None

    def sweeps(self, n_tokens: int, channels: int) -> bool:
        """Whether the pass is made: with few tokens to fit on, for so many channels, it fits these alone."""
        enough = n_tokens > ENOUGH and n_tokens >= ENOUGH_EACH * channels
        return enough if self.sweep is None else self.sweep


def work(known: Known, options: ComeJointOptions, tokens: Calibration) -> Schedule:
    """Every step: candidates on the scoring tokens, and windows run for their fits; both lie in the middle."""
    facts, rules, by_hand = known.model, options.rules(), options.windows
    sizes = window_sizes(known.layers, known.target_layers, options.span or known.layers)
    windows = options.windows_tried if by_hand is None else 1
    if by_hand is not None:
        sizes = [last - first + 1 for first, last in by_hand]
    held = options.held_out(tokens.n_tokens // tokens.seq_len, tokens.seq_len) * tokens.seq_len
    left, candidates, run, products = known.layers, list[tuple[int, float]](), 0.0, 0.0
    heads, chooses = 0.0, options.chooses(known.layers, known.target_layers)
    if chooses:  # the original, what enters the windows and what is above them; its head is run for each once more
        run += 1.5 * left + options.windows_tried * left / 2
        heads += 1 + 2 * options.windows_tried
    for number, size in enumerate(sizes):
        pairs = options.span is not None or size == 2
        alone, removals = (min(options.layers_tried, left), windows) if pairs else (0, 1)
        tried = alone + 1 + (1 if chooses else windows) * len(options.strengths)
        tried += removals * len(options.strengths)
        if by_hand is not None:
            tried = len(options.strengths)
        candidates.append((tried, left / 2))
        # What enters the windows; then a window twice in a row, attentions that are joined, and its FFNs.
        attentions = size - 1 if rules.joins_attention else 0
        run += (left if number == 0 else left / 2) + windows * (2 * size + attentions + 2)
        products += windows * fit_products(facts, size, tokens.n_tokens - held, rules)
        left -= size - 1
    moved = len(sizes) * facts.layer_parameters
    if options.sweeps(tokens.n_tokens - held, facts.intermediate_size):
        moved += left * output_parameters(facts)
        # Both models, and each layer once for either map and once more to see what came of it.
        run += known.layers + 4 * left
        products += left * sweep_products(facts, tokens.n_tokens)
    return Schedule(
        merges=len(sizes),
        span=max(sizes, default=2),
        candidates=candidates,
        candidate_tokens=held,
        unmeasured=run,
        heads=heads,
        products=products,
        moved=moved,
    )


def forecast(known: Known, options: ComeJointOptions) -> Forecast | None:
    """The windows by hand; or those of least block influence but for one layer's, or of least measured cost."""
    if options.windows is not None:
        return named(known, options.windows, options.drop or (), UNITS)
    if not options.scores_as_measured:
        known = replace(known, costs=())
    sizes, left = [], known.layers
    while left > known.target_layers:
        size = window_size(options.span or left, left, known.target_layers)
        sizes.append(longest_window(known.model, known.layers, size))
        left -= sizes[-1] - 1
    doubt = f"the run fits {options.windows_tried} windows and takes the one that scores best"
    return fitting(known, sizes, doubt, options.windows_tried)


@register(
    "come-joint",
    title="CoMe-Joint",
    paper="Ours, after Wang et al. 2025, arXiv 2510.15304",
    summary="Merge the window whose merge costs least, its channels chosen together by least squares and looking "
    "ahead, its maps moved.",
    kind="merge",
    options=ComeJointOptions,
    needs=("forward", "logits"),
    stepwise=True,
    begins=True,
    cost="A few windows fitted on the calibration tokens and scored; with a span, that for each step.",
    work=work,
    forecast=forecast,
    portfolio={},
)
def come_joint(task: Task, options: ComeJointOptions) -> Result:
    """Merge one window, or with a span one after the other, by what scores best."""
    if task.target_layers == len(task.original.layers):
        return Result(task.current, task.plan)
    fitted, scoring = options.split(task.tokens)
    scorer = Scorer(task.original, scoring, options.score, options.batch_size, options.memory_budget)
    sweeps = options.sweeps(fitted.numel(), task.original.shape.channels)
    before_sweep = 1000 - SWEEP_SHARE * sweeps
    if options.windows is not None:
        bundle, plan, history = fitted_by_hand(
            task,
            options.windows,
            options.drop or (),
            options.rules(),
            fitted,
            scorer,
            at_end=before_sweep,
            **options.running(),
        )
    else:
        bundle, plan, history = _by_score(task, options, fitted, scorer, before_sweep)
    if sweeps and not is_swept(plan):

        def report(done: int) -> None:
            left = task.target_layers
            at = before_sweep + SWEEP_SHARE * done // left
            emit(task.on_progress, "compress", at, 1000, f"Output maps of layer {done} of {left}")

        score, bundle, plan = swept(
            task.original, bundle, plan, task.tokens, scorer, report=report, **options.running()
        )
        if is_swept(plan):
            task.done(plan)
        emit(task.on_progress, "compress", 1000, 1000, f"All output maps: score {score:.4f}", score=score)
    return Result(with_plan(bundle, plan), plan, history)


def _by_score(
    task: Task, options: ComeJointOptions, tokens: Tensor, scorer: Scorer, at_end: int
) -> tuple[Bundle, Plan, list[StepRecord]]:
    """The model and the plan once the cheapest changes have brought it to the target.

    Args:
        task, options: as given to the method.
        tokens: int64 (sequences, tokens), on which windows are fitted.
        scorer: scores changes.
        at_end: how far the whole is after it, of a thousand.
    """
    bundle, plan, history = task.current, task.plan, list[StepRecord]()
    chooser = None
    if options.chooses(len(bundle.layers), task.target_layers):
        how = (options.score, options.batch_size, options.memory_budget)
        chooser = Scorer(task.original, task.tokens, *how, keep=False)
    borders = HiddenStateCache.of(bundle, tokens, options.memory_budget)
    share = at_end / (len(task.original.layers) - task.target_layers)  # of a layer that goes

    def tell(done: int, of: int, message: str) -> None:
        """Where the search for the next change is: in the share of the layers that it takes at most."""
        gone = len(task.original.layers) - len(bundle.layers)
        emit(task.on_progress, "compress", round(share * (gone + (largest - 1) * done / (of + 1))), 1000, message)

    while len(bundle.layers) > task.target_layers:
        began = time.perf_counter()
        largest = window_size(options.span or len(bundle.layers), len(bundle.layers), task.target_layers)
        if options.span is None:
            largest = longest_window(bundle, len(bundle.layers), largest)
        best = cheapest_change(
            bundle,
            scorer,
            tokens,
            borders,
            rules=options.rules(),
            smallest=largest if options.span is None else 2,
            largest=largest,
            layers_tried=options.layers_tried,
            windows_tried=options.windows_tried,
            chooser=chooser,
            batch_size=options.batch_size,
            tell=tell,
        )
        words = best.describe(plan.groups())
        bundle, plan = best.take(bundle, plan)
        for each in (scorer, chooser):
            if each is not None:
                each.after_change(best.window[0])
        borders.forget_after(best.window[0])
        history.append(StepRecord(best.window, best.ratio, seconds=time.perf_counter() - began))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            round(share * (len(task.original.layers) - len(bundle.layers))),
            1000,
            f"Step {len(history)}: {words}; {len(bundle.layers)} layers",
            window=list(best.window),
            ratio=list(best.ratio),
            layers=len(bundle.layers),
            score=best.score,
        )
    return bundle, plan, history
