"""Mask tuning (Kwon et al. 2022, arXiv 2204.09656, section 4.3): scales for the units that are kept.

From the lowest masked layer up, the attention and then the FFN of each layer get scales s, one a kept unit, such that
the output map gives on the calibration tokens what it gives in the original model:

    min_s sum_t || W (s o x'_t) - W x_t ||^2 + r ||s - 1||^2

x_t enters the map in the original model, x'_t in the pruned and, below, tuned one; r is ``ridge`` times the mean of the
normal matrix's diagonal. The paper matches the sum with the residual stream; the map's own output is matched here, as
that means the same in every family (parallel blocks, norms after the sub-layer). The normal equations only need
X'^T X' and X'^T X, so tokens stream. Scales beyond +-10 are no solution (the paper's bound): that map stays as it is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from come.events import emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle, Family
from come.models.offload import weight_of
from come.plan.steps import Mask
from come.pruning.method import Task

BOUND = 10.0


@torch.no_grad()
def tuned_outputs(
    task: Task, masked: Bundle, mask: Mask, ridge: float, batch_size: int | None, begin: float
) -> dict[str, Tensor]:
    """The weights of the output maps with their scales folded in, by parameter name.

    Hidden states of all calibration tokens at one layer border are kept in main memory, for both models.

    Args:
        task: the original model and the tokens.
        masked: the model with the mask.
        mask: what is silenced.
        ridge: how strongly scales are held to 1.
        batch_size: sequences at a time.
        begin: the share of the work that was done before.
    """
    teacher, student = LayerRunner(task.original), LayerRunner(masked)
    family, shape = masked.family, masked.shape
    todo = [batch.tokens for batch in batches(task.tokens, batch_size)]
    states = [[runner.enter(tokens) for tokens in todo] for runner in (teacher, student)]
    lowest = min((*mask.kv_groups, *mask.channels))
    found: dict[str, Tensor] = {}
    for layer in range(len(teacher)):
        if layer >= lowest:
            for path, units, silenced in (
                (family.attention_output, shape.kv_heads, mask.kv_groups.get(layer, [])),
                (family.ffn_output, shape.channels, mask.channels.get(layer, [])),
            ):
                own, cross = _moments(teacher, student, layer, path, states)
                weight = family.matrix(task.original.layers[layer], path).float()
                kept = torch.tensor([unit for unit in range(units) if unit not in set(silenced)])
                scales = solve(weight, own, cross, units, kept.to(weight.device), ridge)
                if scales is not None:
                    module = student.layers[layer].get_submodule(path)
                    found[f"{family.layers}.{layer}.{path}.weight"] = _scale(family, module, scales)
        for batch in range(len(todo)):
            for runner, mine in zip((teacher, student), states, strict=True):
                mine[batch] = runner.run(layer, mine[batch].to(_device(runner, layer))).cpu()
        share = begin + (1 - begin) * (layer + 1) / len(teacher)
        emit(task.on_progress, "compress", round(1000 * share), 1000, f"Tuning the mask of layer {layer}")
    return found


def _moments(
    teacher: LayerRunner, student: LayerRunner, layer: int, path: str, states: list[list[Tensor]]
) -> tuple[Tensor, Tensor]:
    """X'^T X' and X'^T X of what enters a map in the student and the teacher, (channels, channels) each."""
    own: Tensor | None = None
    cross: Tensor | None = None
    for ours, theirs in zip(states[1], states[0], strict=True):
        inputs: list[Tensor] = []
        for runner, hidden_states in ((student, ours), (teacher, theirs)):
            with runner.watching(layer, {path: inputs.append}):
                runner.run(layer, hidden_states.to(_device(runner, layer)))
        x, y = (each.flatten(0, -2).float() for each in inputs)
        own = x.T @ x if own is None else own + x.T @ x
        cross = x.T @ y if cross is None else cross + x.T @ y
    assert own is not None and cross is not None
    return own, cross


def solve(weight: Tensor, own: Tensor, cross: Tensor, units: int, kept: Tensor, ridge: float) -> Tensor | None:
    """The scale of every channel, (channels,), 1 for silenced ones; None where there is no sensible solution.

    Args:
        weight: of the map, (out, channels).
        own, cross: X'^T X' and X'^T X, (channels, channels).
        units: how many units the channels belong to, in equal stretches.
        kept: which units get a scale.
        ridge: as a share of the mean of the normal matrix's diagonal.
    """
    if not len(kept):
        return None
    products = weight.T @ weight
    size = len(own) // units
    normal = (products * own).view(units, size, units, size).sum((1, 3))[kept][:, kept]
    right = (products * cross).sum(1).view(units, size).sum(1)[kept]
    damping = ridge * normal.diagonal().mean()
    if damping == 0:
        return None
    damped = normal + damping * torch.eye(len(kept), device=normal.device)
    scales = 1 + torch.linalg.solve(damped, right - normal.sum(1))
    if not scales.isfinite().all() or scales.abs().max() > BOUND:
        return None
    by_unit = torch.ones(units, device=scales.device)
    by_unit[kept] = scales
    return by_unit.repeat_interleave(size)


def _scale(family: Family, module: nn.Module, scales: Tensor) -> Tensor:
    """Fold scales into a map; returns its new weight, as it is stored."""
    weight = weight_of(module, "weight")
    assert weight is not None
    new = (weight.float() * (scales[:, None] if family.transposed else scales)).to(weight.dtype)
    setattr(module, "weight", nn.Parameter(new, requires_grad=False))  # noqa: B010 - Module types its attributes as tensors
    return new


def _device(runner: LayerRunner, layer: int) -> torch.device:
    device = next(runner.layers[layer].parameters()).device
    return torch.device("cpu") if device.type == "meta" else device  # a hook moves what comes in
