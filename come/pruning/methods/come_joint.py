"""CoMe-Joint (ours): a window by what its merge costs, units of all its layers chosen together, maps moved.

The windows of that many layers whose block influence is least in sum, but for one layer's, are merged
(``come.pruning.joint``). The one nearest to the original on all calibration tokens is taken; or, in its place, all but
its dearest layer are removed with the same refit, where that scores better on tokens that no map is fitted on.

With a span, windows are no longer than that, and one is merged after the other. Around the layers that cost least when
they are left out in turn, windows of all sizes are tried, and plain removals are among the candidates: no step is worse
on the scoring tokens than the removal of any layer that was looked at. All scores are taken anew after each step.
"""

from __future__ import annotations

import time

from pydantic import Field

from come.events import emit
from come.measurement.hidden_state_cache import HiddenStateCache
from come.pruning.cheapest import cheapest_change
from come.pruning.forecast import Forecast, Known, fitting
from come.pruning.joint import JointRules, fit_products
from come.pruning.method import Task
from come.pruning.options import ScoredOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.pruning.scoring import Scorer
from come.pruning.sweep import is_swept, sweep_products, swept
from come.pruning.windows import window_size, window_sizes
from come.transforms.compatible import longest_window
from come.transforms.rebuild import with_plan

SWEEP_SHARE = 50  # of a thousand


class ComeJointOptions(ScoredOptions):
    """How many windows are tried, and how they are merged and scored."""

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
    sweep: bool = Field(
        True,
        description="At the end, moves the output maps of all layers from the bottom up, towards what the original "
        "gives; taken if it scores better.",
    )

    lookahead: float = Field(
        0.1,
        ge=0,
        description="How strongly the prediction of what later layers of a window read, of what enters it, is held to "
        "the states as they are; 0 for no prediction.",
    )

    def rules(self) -> JointRules:
        """How windows are fitted."""
        return JointRules(self.strengths, lookahead=self.lookahead)

    def chooses(self, layers: int, target: int) -> bool:
        """Whether one window of more than two layers is chosen out of several."""
        return self.span is None and layers - target > 1 and self.windows_tried > 1

    @property
    def one_by_one(self) -> bool:
        """The sweep and a single window are for one target."""
        return not self.sweep and self.span is not None


def work(known: Known, options: ComeJointOptions, tokens: Calibration) -> Schedule:
    """Every step: candidates on the scoring tokens, and windows run for their fits; both lie in the middle."""
    span = options.span or known.layers
    facts, sizes = known.model, window_sizes(known.layers, known.target_layers, span)
    rules = options.rules()
    held = options.held_out(tokens.n_tokens // tokens.seq_len, tokens.seq_len) * tokens.seq_len
    left, candidates, run, products = known.layers, list[tuple[int, float]](), 0.0, 0.0
    heads, chooses = 0.0, options.chooses(known.layers, known.target_layers)
    if chooses:  # the original, what enters the windows and what is above them; its head is run for each once more
        run += 1.5 * left + options.windows_tried * left / 2
        heads += 1 + 2 * options.windows_tried
    for number, size in enumerate(sizes):
        pairs = options.span is not None or size == 2
        alone, removals = (min(options.layers_tried, left), options.windows_tried) if pairs else (0, 1)
        tried = alone + 1 + (1 if chooses else options.windows_tried) * len(options.strengths)
        tried += removals * len(options.strengths)
        candidates.append((tried, left / 2))
        # What enters the windows; then a window twice in a row, its attentions side by side, and its FFNs.
        run += (left if number == 0 else left / 2) + options.windows_tried * (2 * size + (size - 1) + 2)
        products += options.windows_tried * fit_products(facts, size, tokens.n_tokens - held, rules)
        left -= size - 1
    if options.sweep:
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
    )


def forecast(known: Known, options: ComeJointOptions) -> Forecast | None:
    """The windows of least block influence but for one layer's, where the run scores several."""
    sizes, left = [], known.layers
    while left > known.target_layers:
        size = window_size(options.span or left, left, known.target_layers)
        sizes.append(longest_window(known.model, known.layers, size))
        left -= sizes[-1] - 1
    tries = f"the run fits {options.windows_tried} windows and takes the one that scores best"
    return fitting(known, sizes, f"{tries}; which units it keeps is solved for, not told by their sensitivity")


@register(
    "come-joint",
    title="CoMe-Joint",
    paper="Ours, after Wang et al. 2025, arXiv 2510.15304",
    summary="Merge the window whose merge costs least, its units chosen together by least squares and looking ahead, "
    "its maps moved.",
    kind="merge",
    options=ComeJointOptions,
    needs=("forward", "logits"),
    stepwise=True,
    begins=True,
    cost="A few windows fitted on the calibration tokens and scored, and a sweep; with a span, that for each step.",
    work=work,
    forecast=forecast,
    portfolio={},
)
def come_joint(task: Task, options: ComeJointOptions) -> Result:
    """Merge one window, or with a span one after the other, by what scores best."""
    fitted, scoring = options.split(task.tokens)
    bundle, plan = task.current, task.plan
    scorer = Scorer(task.original, scoring, options.score, options.batch_size, options.memory_budget)
    chooser = None
    if options.chooses(len(bundle.layers), task.target_layers):
        how = (options.score, options.batch_size, options.memory_budget)
        chooser = Scorer(task.original, task.tokens, *how, keep=False)
    borders = HiddenStateCache.of(bundle, fitted, options.memory_budget)
    steps = len(task.original.layers) - task.target_layers
    history: list[StepRecord] = []
    share = (1000 - SWEEP_SHARE * options.sweep) / steps  # of a layer that goes

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
            fitted,
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
            f"Step {len(history)}: {best.describe()}; {len(bundle.layers)} layers",
            window=list(best.window),
            ratio=list(best.ratio),
            layers=len(bundle.layers),
            score=best.score,
        )
    if options.sweep and not is_swept(plan):

        def report(done: int) -> None:
            left = task.target_layers
            at = 1000 - SWEEP_SHARE + SWEEP_SHARE * done // left
            emit(task.on_progress, "compress", at, 1000, f"Output maps of layer {done} of {left}")

        score, bundle, plan = swept(
            task.original, bundle, plan, task.tokens, scorer, report=report, **options.running()
        )
        if is_swept(plan):
            task.done(plan)
        emit(task.on_progress, "compress", 1000, 1000, f"All output maps: score {score:.4f}", score=score)
    return Result(with_plan(bundle, plan), plan, history)
