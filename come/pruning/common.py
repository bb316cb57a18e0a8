"""What methods have in common: choosing and averaging whole layers, and how much silencing parts of them must save."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from come.errors import ComeError
from come.events import emit
from come.models import Bundle
from come.models.depth import attention_kind
from come.plan.steps import Average
from come.pruning.method import Task
from come.pruning.result import Result, StepRecord
from come.transforms.compatible import mixable
from come.transforms.mask import parameters_of_units
from come.transforms.rebuild import apply_step, with_plan


def lowest(scores: Tensor, count: int, among: Sequence[int] | None = None) -> list[int]:
    """The ``count`` layers of lowest score, lowest first, the first on ties.

    Args:
        scores: of every layer, (layers,).
        count: how many.
        among: the layers that are looked at; all by default.
    """
    layers = torch.arange(len(scores)) if among is None else torch.tensor(among, dtype=torch.long)
    return layers[torch.sort(scores[layers], stable=True).indices[:count]].tolist()


def averageable(bundle: Bundle, first: int, last: int) -> bool:
    """Whether layers ``first`` to ``last`` mean the same by their weights: one attention kind, one rotary table."""
    kinds = {attention_kind(bundle.model.config, layer) for layer in range(first, last + 1)}
    return len(kinds) == 1 and mixable(bundle, first, last) is None


def check_averages_reach(bundle: Bundle, target_layers: int, highest: int, lowest: int = 0) -> None:
    """Refuse a target that averaging neighbours among layers ``lowest`` to ``highest`` cannot reach.

    Raises:
        ComeError: says how few layers can be left.
    """
    pairs = sum(averageable(bundle, layer, layer + 1) for layer in range(lowest, highest))
    fewest = len(bundle.layers) - pairs
    if target_layers < fewest:
        within = " within the bounds" if lowest or highest < len(bundle.layers) - 1 else ""
        raise ComeError(
            f"A target of {target_layers} layers is out of reach: layers of different kinds are not averaged, "
            f"and {fewest} are left when all others{within} are.",
            f"Give a target of {fewest} or more, or choose another method.",
        )


def take_averages(task: Task, steps: Sequence[Average], seconds: float) -> Result:
    """Take the steps that ``task.plan`` has not taken yet.

    Args:
        task: what the method was given.
        steps: all steps from the original model to the target.
        seconds: how long it took to decide on them.
    """
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    for number, step in enumerate(steps[len(plan.steps) :], start=len(plan.steps) + 1):
        words = step.describe(plan.groups())
        bundle, plan = apply_step(bundle, step), plan.with_step(step)
        history.append(StepRecord(step.window, tuple(step.weights), seconds=seconds / len(steps)))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            900 + 100 * number // len(steps),
            1000,
            words,
            window=list(step.window),
            layers=len(bundle.layers),
        )
    return Result(with_plan(bundle, plan), plan, history)


def parameters_to_remove(task: Task) -> int:
    """How many parameters removing whole layers down to the target would save.

    Raises:
        ComeError: all sub-layers together have fewer (norms are not silenced).
    """
    one_layer = sum(parameter.numel() for parameter in task.original.layers[0].parameters())
    layers = len(task.original.layers)
    wanted = (layers - task.target_layers) * one_layer
    if wanted > layers * sum(sub_layer_parameters(task.original, attention) for attention in (True, False)):
        raise ComeError(
            f"A target of {task.target_layers} layers is out of reach: not even silencing everything saves as much.",
            "Give a higher target.",
        )
    return wanted


def sub_layer_parameters(bundle: Bundle, attention: bool) -> int:
    """How many parameters the attention, or else the FFN, of one layer has."""
    count = bundle.shape.kv_heads if attention else bundle.shape.channels
    return parameters_of_units(bundle, bundle.layers[0], attention, count)
