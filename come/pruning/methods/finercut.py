"""FinerCut: remove single attention or FFN sub-layers, one at a time (Zhang et al. 2024, arXiv 2405.18218).

Each candidate is judged by how far the outputs (logits) of the model without it are from the original model's. The
layers would differ in shape, so the sub-layers are silenced instead: their output maps become zero, which computes the
same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from come.events import emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.statistics import angle
from come.measurement.suffix import each_border, states_at
from come.models import Bundle
from come.plan.steps import Mask
from come.pruning.common import parameters_to_remove, sub_layer_parameters
from come.pruning.forecast import Known
from come.pruning.method import Task
from come.pruning.options import FewTokensOptions
from come.pruning.registry import register
from come.pruning.result import Result, StepRecord
from come.pruning.schedule import Calibration, Schedule
from come.transforms.mask import mask, silence
from come.transforms.rebuild import apply_step, with_plan


class FinerCutOptions(FewTokensOptions):
    """How far outputs are from the original's, and on which tokens: the original's logits of all these are kept."""

    metric: Literal["norm", "angular", "js"] = Field(
        "norm",
        description="How the logits of two models are compared: by the norm of a sequence's difference (the published "
        "program's default), the angle of each token's, or the Jensen-Shannon divergence of next-token distributions.",
    )
    seq_len: int | None = Field(64, ge=2, description="How many tokens of each of these; empty for all.")


class SubLayer(NamedTuple):
    """The attention of a layer, or else its FFN."""

    layer: int
    attention: bool

    def silenced(self, bundle: Bundle) -> Mask:
        """The step that takes it out of a model."""
        shape = bundle.shape
        if self.attention:
            return mask(bundle, {self.layer: list(range(shape.kv_heads))}, {})
        return mask(bundle, {}, {self.layer: list(range(shape.channels))})


def work(known: Known, options: FinerCutOptions, tokens: Calibration) -> Schedule:
    """Two sub-layers a layer: each that is left is tried, over half of the layers."""
    layers, gone = known.layers, 2 * known.surplus
    tried = [(2 * layers - step, layers / 2) for step in range(gone)]
    return Schedule([float(layers)], gone, candidates=tried, candidate_tokens=options.count(tokens.n_tokens))


@register(
    "finercut",
    title="FinerCut",
    paper="Zhang et al. 2024, arXiv 2405.18218",
    summary="Silence single attention or FFN sub-layers, one at a time, by how little the logits change.",
    kind="mask",
    options=FinerCutOptions,
    needs=("forward", "logits"),
    cost="For each sub-layer that goes, a pass over half the layers for every one left, on 10 sequences of 64 tokens.",
    target="parameters",
    work=work,
)
def finercut(task: Task, options: FinerCutOptions) -> Result:
    """Silence the sub-layer whose absence changes the outputs least, until the parameter count is reached."""
    to_remove = parameters_to_remove(task)
    bundle, plan, history = task.current, task.plan, list[StepRecord]()
    if plan.silenced_parameters >= to_remove:
        return Result(bundle, plan, history)
    judge = Judge(task, options)
    gone = sub_layers_of(plan.steps)
    everything = [SubLayer(layer, attention) for layer in range(len(bundle.layers)) for attention in (True, False)]
    sizes = {each: sub_layer_parameters(bundle, each.attention) for each in everything}
    while plan.silenced_parameters < to_remove:
        began = time.perf_counter()
        judge.see(bundle)
        left = [each for each in everything if each not in gone]
        candidates = without_waste(left, gone, sizes, to_remove - plan.silenced_parameters)
        distances = {each: judge(each) for each in candidates}
        chosen = min(candidates, key=distances.__getitem__)
        check_finite(torch.tensor(distances[chosen]), judge.runner)
        step = chosen.silenced(task.original)
        bundle, plan, gone = apply_step(bundle, step), plan.with_step(step), [*gone, chosen]
        judge.borders.forget_after(chosen.layer)
        history.append(StepRecord((chosen.layer, chosen.layer), seconds=time.perf_counter() - began))
        task.done(plan)
        share = min(1.0, plan.silenced_parameters / to_remove)
        emit(task.on_progress, "compress", round(1000 * share), 1000, step.describe(), distance=distances[chosen])
    return Result(with_plan(bundle, plan), plan, history)


def sub_layers_of(steps: Sequence[object]) -> list[SubLayer]:
    """The sub-layers that the steps of an interrupted plan took out."""
    masks = [step for step in steps if isinstance(step, Mask)]
    return [
        SubLayer(layer, attention)
        for step in masks
        for attention, units in ((True, step.kv_groups), (False, step.channels))
        for layer in units
    ]


def without_waste(
    left: Sequence[SubLayer], gone: Sequence[SubLayer], sizes: dict[SubLayer, int], to_go: int
) -> list[SubLayer]:
    """The candidates for removal: not those that would make an earlier removal needless, if there are others.

    Args:
        left, gone: the sub-layers that are there, and those that were removed.
        sizes: their parameters.
        to_go: how many parameters are still to go.
    """
    smallest_gone = min((sizes[each] for each in gone), default=max(sizes.values()) + 1)
    return [each for each in left if sizes[each] - to_go < smallest_gone] or list(left)


class Judge:
    """How far a model's logits without a sub-layer are from the original's; only the layers from it on are run.

    Attributes:
        bundle: the model that ``see`` was last given.
        borders: hidden states that enter its layers.
    """

    def __init__(self, task: Task, options: FinerCutOptions) -> None:
        self.options = options
        self.tokens = options.few(task.tokens)
        bundle = task.original
        self.borders = HiddenStateCache.of(bundle, self.tokens)
        self.bundle, self.runner = bundle, LayerRunner(bundle)
        self.original = list(self._logits(0, {}))
        for logits in self.original:
            check_finite(logits, self.runner)

    @torch.inference_mode()
    def see(self, bundle: Bundle) -> None:
        """Keep what enters the layers of a model, where it is not kept yet."""
        self.bundle, self.runner = bundle, LayerRunner(bundle)
        for batch in batches(self.tokens, self.options.batch_size):
            for border, _ in each_border(self.runner, batch, self.borders):
                if border == len(self.runner) - 1:
                    break

    def __call__(self, without: SubLayer) -> float:
        """The mean distance once a sub-layer of the model that was seen is silenced too."""
        changed = self._logits(without.layer, silence(self.bundle, without.silenced(self.bundle)))
        pairs = zip(self.original, changed, strict=True)
        mean = float(torch.stack([distance(*pair, self.options.metric) for pair in pairs]).mean())
        return math.inf if math.isnan(mean) else mean

    @torch.inference_mode()
    def _logits(self, start: int, instead: Mapping[int, nn.Module]) -> Iterator[Tensor]:
        """The logits of each sequence, (tokens, vocabulary), on the CPU, with other layers from ``start`` on."""
        for batch in batches(self.tokens, self.options.batch_size):
            hidden_states = states_at(self.runner, batch.index, batch.tokens, start, self.borders)
            for layer in range(start, len(self.runner)):
                hidden_states = self.runner.run(layer, hidden_states, instead.get(layer))
            for states in self.runner.norm(hidden_states):
                yield self.runner.logits(states).cpu()


def distance(original: Tensor, changed: Tensor, metric: str) -> Tensor:
    """How far logits are from others, (tokens, vocabulary) each -> (), by a metric of ``FinerCutOptions``."""
    if metric == "norm":
        norm: Tensor = torch.linalg.matrix_norm(changed - original)
        return norm
    if metric == "angular":
        return angle(torch.cosine_similarity(original, changed, dim=-1).clamp(-1, 1)).mean()
    ours, theirs = changed.log_softmax(-1), original.log_softmax(-1)
    middle = torch.logaddexp(ours, theirs) - math.log(2)
    divergences = torch.stack([(each.exp() * (each - middle)).sum(-1) for each in (ours, theirs)])
    return divergences.mean()
