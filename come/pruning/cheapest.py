"""The cheapest next change of a model: a window merged, or a layer removed with or without a refit, by its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import entering_window
from come.models import Bundle
from come.plan.plan import Plan
from come.plan.steps import Groups, Remove, named
from come.pruning.common import lowest
from come.pruning.joint import MADE_BY, Candidate, joint_candidates
from come.pruning.joint_rules import JointRules
from come.pruning.scoring import Scorer
from come.pruning.windows import Window, dearest, windows_by_cost
from come.transforms.compatible import note_for_step
from come.transforms.folding import note_of_folding
from come.transforms.rebuild import apply_step
from come.transforms.replace import replace_weights


@dataclass(frozen=True)
class Change:
    """A change of a model, and its score.

    Attributes:
        score: of the model after it.
        window: (first, last), the layers it concerns; of a removal, that layer twice.
        candidate: what the window becomes; None for a removal.
    """

    score: float
    window: Window
    candidate: Candidate | None = None

    @property
    def goes(self) -> int:
        """How many layers fewer there are after it."""
        return max(1, self.window[1] - self.window[0])

    @property
    def ratio(self) -> tuple[float, ...]:
        """The share of each layer of a merge in its FFN channels; empty for a removal."""
        if self.candidate is None:
            return ()
        counts = [len(channels) for channels in self.candidate.step.channels]
        return tuple(count / sum(counts) for count in counts)

    def describe(self, groups: Groups) -> str:
        """The change and its score in words, its layers by the original ones (``groups``) that they stand for."""
        first, last = self.window
        if self.candidate is None:
            return f"removed layer {named([first], groups)}, score {self.score:.4f}"
        shares = " : ".join(f"{share:.2f}" for share in self.ratio)
        return f"merged layers {named(range(first, last + 1), groups)}, ratio {shares}, score {self.score:.4f}"

    def take(self, bundle: Bundle, plan: Plan) -> tuple[Bundle, Plan]:
        """The model and the plan after the change."""
        if self.candidate is None:
            removal = Remove(layers=[self.window[0]])
            return apply_step(bundle, removal), plan.with_step(removal)
        step = self.candidate.step
        tensors = self.candidate.placed(bundle.family.layers, step.window[0])
        changed = replace_weights(apply_step(bundle, step), tensors)
        plan = plan.with_step(step).with_tensors(tensors, MADE_BY)
        notes = (note_for_step(bundle, step), note_of_folding(bundle, step))
        return changed, plan.with_notes([note for note in notes if note])


def cheapest_change(
    bundle: Bundle,
    scorer: Scorer,
    tokens: Tensor,
    borders: HiddenStateCache,
    rules: JointRules,
    *,
    smallest: int = 2,
    largest: int = 2,
    layers_tried: int = 12,
    windows_tried: int = 2,
    chooser: Scorer | None = None,
    batch_size: int | None = None,
    tell: Callable[[int, int, str], None] | None = None,
) -> Change:
    """The change of least score for each layer that it takes away.

    Layers of low block influence are removed in turn; windows with the cheapest removals are merged. Where windows have
    more than two layers at least, those with the least sum of block influence but for one layer's are. Beside each
    merge, or beside the best of such long ones, all but the window's dearest layer are removed with a refit.

    Args:
        bundle: the model.
        scorer: scores changes of it.
        tokens: int64 (sequences, tokens), on which windows are fitted.
        borders: hidden states of ``bundle`` on these; what is run is kept there.
        rules: how windows are fitted.
        smallest, largest: how many layers a window has; with more than 2 at least, no layer is removed alone, and some
            window of that many has to be one that can be merged.
        layers_tried, windows_tried: how many layers and windows are looked at.
        chooser: scores windows of more than two layers at least against each other, ``scorer`` where there is none.
            All are fitted on as many tokens, so that more of these may be among its own: few tell them hardly apart.
        batch_size: sequences at a time.
        tell: told (done, of, message).

    Raises:
        ComeError: the model overflows as it is, or after every change.
    """
    runner = LayerRunner(bundle)
    layers = len(runner)
    influence = scorer.block_influence(runner)
    now = scorer.changed(runner, layers, [])
    low = sorted(lowest(influence, layers_tried)) if smallest == 2 else []
    work = len(low) + windows_tried
    costs = influence if smallest > 2 else torch.full((layers,), torch.inf)
    changes: list[Change] = []
    for done, layer in enumerate(low):
        changes.append(Change(scorer.changed(runner, layer, range(layer + 1, layers)), (layer, layer)))
        costs[layer] = changes[-1].score - now
        if tell is not None:
            tell(done + 1, work, f"Without one layer: {done + 1} of {len(low)}")

    def try_window(window: Window, choices: Sequence[int | None], by: Scorer) -> None:
        changes.extend(fitted_changes(bundle, runner, by, tokens, borders, window, rules, choices, batch_size))

    windows_by = scorer if smallest == 2 or chooser is None else chooser
    for done, window in enumerate(windows_by_cost(bundle, costs, smallest, largest)[:windows_tried]):
        try_window(window, (None, dearest(costs, window)) if smallest == 2 else (None,), windows_by)
        if tell is not None:
            tell(len(low) + done + 1, work, f"Merging one window: {done + 1} of {windows_tried}")
    if smallest > 2:
        window = min(changes, key=lambda change: change.score).window
        fitted = [change.candidate for change in changes if change.window == window and change.candidate is not None]
        changes = [_scored(runner, scorer, window, each) for each in fitted]
        try_window(window, (dearest(costs, window),), scorer)
    best = min(changes, key=lambda change: (change.score - now) / change.goes)
    check_finite(torch.tensor(best.score), runner)
    return best


def fitted_changes(
    bundle: Bundle,
    runner: LayerRunner,
    scorer: Scorer,
    tokens: Tensor,
    borders: HiddenStateCache,
    window: Window,
    rules: JointRules,
    choices: Sequence[int | None] = (None,),
    batch_size: int | None = None,
) -> list[Change]:
    """What a window could become, each fitted and scored: for each choice, one a ridge strength.

    Args:
        bundle: the model, and ``runner``: it.
        scorer, tokens, borders, rules, batch_size: as for ``cheapest_change``.
        window: (first, last).
        choices: as for ``joint_candidates``.
    """
    states = entering_window(runner, tokens, window[0], borders, batch_size)
    found = joint_candidates(bundle, runner, window, states, rules, choices)
    return [_scored(runner, scorer, window, each) for each in found]


def _scored(runner: LayerRunner, scorer: Scorer, window: Window, candidate: Candidate) -> Change:
    """The change that a candidate for a window is, with its score."""
    above = [candidate.origin, *range(window[1] + 1, len(runner))]
    score = scorer.changed(runner, window[0], above, {candidate.origin: candidate.module})
    return Change(score, window, candidate)
