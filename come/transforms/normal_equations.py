"""Accumulates the normal equations (X'WX, X'WR) for refitting one output projection of a layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.models import Family
from come.transforms.ridge import Sums, empty_sums

TokenWeight = Literal["norm", "squared-norm", "none"]
StateBatches = Callable[[], Iterator[tuple[Tensor, Tensor, int]]]
"""Gives, again at every call, batches of the hidden states that enter a layer and of those that should leave it (the
targets), (sequences, tokens, hidden_size) each, and how many of the sequences, the first ones, are to be fitted; the
rest is held out."""

POWER = {"norm": 1.0, "squared-norm": 2.0, "none": 0.0}
SMALL_GAIN = 1e-3  # a channel that a norm scales by less than this share of the largest is left alone


@dataclass
class NormalEquations:
    """The normal equations of one output projection, with the error of the layer's output on held-out tokens.

    Attributes:
        fit, held_out: of the tokens that are solved for, and of those held out.
        squared_error: sum_t w_t ||target_t - output_t||^2 of the layer over the held-out tokens.
        squared_target: sum_t w_t ||target_t||^2 over the same.
    """

    fit: Sums
    held_out: Sums
    squared_error: float = 0.0
    squared_target: float = 0.0

    @property
    def error(self) -> float:
        """The squared error as a share of the targets' square."""
        return self.squared_error / self.squared_target if self.squared_target else 0.0

    def error_after(self, change: Tensor) -> float:
        """The same after a change of the projection, (channels, hidden_size), if the layer's output is linear in it."""
        gain = self.held_out.gain(change.to(self.held_out.gram.device))
        return max(0.0, self.squared_error - gain) / self.squared_target if self.squared_target else 0.0

    def add_held_out(self, target: Tensor, output: Tensor, weight: Tensor) -> None:
        """Add held-out tokens to the error: target and output (tokens, hidden_size), weight (tokens,)."""
        error, whole = squared(target, output, weight)
        self.squared_error, self.squared_target = self.squared_error + error, self.squared_target + whole


def accumulate_normal_equations(
    runner: LayerRunner, layer: int, path: str, states: StateBatches, kind: TokenWeight
) -> NormalEquations:
    """Run a layer once over all tokens and sum up X'WX and X'WR of its output projection at ``path``.

    X is what enters the projection, R the residual: what its output lacks of the layer's target.
    """
    module = runner.layers[layer]
    linear = module.get_submodule(path)
    matrix = runner.family.matrix(module, path)
    silenced = (matrix == 0).all(0)  # units that a mask took out stay out
    masked = bool(silenced.any())
    has_bias = getattr(linear, "bias", None) is not None and not bool(silenced.all())
    device = matrix.device if matrix.device.type != "mps" else torch.device("cpu")  # no float64 there
    channels = matrix.shape[1] + (getattr(linear, "bias", None) is not None)
    fit, held_out = (empty_sums(channels, matrix.shape[0], device) for _ in range(2))
    equations = NormalEquations(fit, held_out)
    for entering, targets, fitted in states():
        inputs, projected, output = watched(runner, layer, path, entering)
        target = targets.to(output.device).flatten(0, -2).float()
        plain = token_weights(target, kind)
        residual, scale = _at_projection(module, runner.family, path, target - output, projected)
        if masked:
            inputs = inputs.masked_fill(silenced, 0)
        if channels > inputs.shape[1]:
            ones = torch.full((len(inputs), 1), float(has_bias), device=inputs.device)
            inputs = torch.cat([inputs, ones], 1)
        weight = plain * scale
        split = fitted * entering.shape[1]
        for sums, rows in ((fit, slice(0, split)), (held_out, slice(split, None))):
            if len(inputs[rows]):
                sums.add(*(each[rows].to(device) for each in (inputs, residual, weight)))
        if split < len(inputs):
            equations.add_held_out(target[split:], output[split:], plain[split:])
    return equations


def watched(runner: LayerRunner, layer: int, path: str, entering: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What enters a projection, what leaves it, and what leaves the layer, each float32 (tokens, channels)."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend(each.reshape(-1, each.shape[-1]).float() for each in (args[0], output))

    handle = runner.layers[layer].get_submodule(path).register_forward_hook(hook)
    try:
        leaving = runner.run(layer, entering)
    finally:
        handle.remove()
    return seen[0], seen[1], leaving.flatten(0, -2).float()


def _at_projection(
    layer: nn.Module, family: Family, path: str, residual: Tensor, projected: Tensor
) -> tuple[Tensor, Tensor | float]:
    """The layer's residual taken back to a projection's own output, and the squared scale between the two.

    A layer adds m * norm(projected) to its hidden states: m is the family's multiplier, and an RMS norm after the
    sub-layer is taken as linear, at the size that it divides by now.

    Args:
        layer: the layer.
        family: its table.
        path: the projection.
        residual: target minus output of the layer, (tokens, hidden_size).
        projected: what leaves the projection, (tokens, hidden_size).
    """
    multiplier, norm = family.multiplier(layer), family.post_norm(path)
    residual, scale = residual / multiplier, multiplier**2
    if norm is None:
        return residual, scale
    gains = layer.get_submodule(norm)(torch.ones_like(projected[:1])).float()
    size = projected.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
    enough = gains.abs() > SMALL_GAIN * gains.abs().max()
    before = torch.where(enough, residual / gains, 0) * size
    return before, scale * gains.square().mean() / size[:, 0].square()


def token_weights(target: Tensor, kind: TokenWeight) -> Tensor:
    """The weight w_t of each token, (tokens,), by the norm of its target, (tokens, hidden_size)."""
    norms = torch.linalg.vector_norm(target, dim=-1)
    return torch.where(norms > 0, norms.clamp_min(1e-12) ** -POWER[kind], 0)


def squared(target: Tensor, output: Tensor, weight: Tensor) -> tuple[float, float]:
    """sum_t w_t ||target_t - output_t||^2 and sum_t w_t ||target_t||^2."""
    error, whole = ((weight * each.square().sum(-1)).double().sum() for each in (target - output, target))
    return float(error), float(whole)
