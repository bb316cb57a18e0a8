"""What one run of a layer over all tokens tells of one of its output maps: sums to solve from, and what it lacks."""

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
"""Gives, again at every call, batches of what enters a layer and what should leave it, (sequences, tokens, hidden_size)
each, and how many of the sequences, the first ones, are to be fitted; the rest is held out."""

POWER = {"norm": 1.0, "squared-norm": 2.0, "none": 0.0}
SMALL_GAIN = 1e-3  # a channel that a norm scales by less than this share of the largest is left alone


@dataclass
class NormalEquations:
    """What one run of a layer over all tokens shows of a map.

    Attributes:
        fit, held_out: sums of the tokens that are solved for, and of those held out.
        lost: the weighted squared error on the held-out tokens.
        whole: the targets' own weighted square on these.
    """

    fit: Sums
    held_out: Sums
    lost: float = 0.0
    whole: float = 0.0

    @property
    def error(self) -> float:
        """The error, as a share."""
        return self.lost / self.whole if self.whole else 0.0

    def error_after(self, change: Tensor) -> float:
        """The error once the map was changed, as a share, where the layer's output is linear in the map."""
        gain = self.held_out.gain(change.to(self.held_out.gram.device))
        return max(0.0, self.lost - gain) / self.whole if self.whole else 0.0

    def judge(self, target: Tensor, left: Tensor, weight: Tensor) -> None:
        """Add held-out tokens to the error."""
        lost, whole = squares(target, left, weight)
        self.lost, self.whole = self.lost + lost, self.whole + whole


def observed(runner: LayerRunner, layer: int, path: str, states: StateBatches, kind: TokenWeight) -> NormalEquations:
    """Run a layer over all tokens and see what one of its maps is given and what its output lacks."""
    module = runner.layers[layer]
    linear = module.get_submodule(path)
    matrix = runner.family.matrix(module, path)
    silenced = (matrix == 0).all(0)  # units that a mask took out stay out
    masked = bool(silenced.any())
    has_bias = getattr(linear, "bias", None) is not None and not bool(silenced.all())
    device = matrix.device if matrix.device.type != "mps" else torch.device("cpu")  # no float64 there
    channels = matrix.shape[1] + (getattr(linear, "bias", None) is not None)
    seen = NormalEquations(empty_sums(channels, matrix.shape[0], device), empty_sums(channels, matrix.shape[0], device))
    for entering, wanted, fitted in states():
        inputs, outputs, left = _watched(runner, layer, path, entering)
        target = wanted.to(left.device).flatten(0, -2).float()
        plain = token_weights(target, kind)
        lacking, scale = _before_norm(module, runner.family, path, target - left, outputs)
        if masked:
            inputs = inputs.masked_fill(silenced, 0)
        if channels > inputs.shape[1]:
            ones = torch.full((len(inputs), 1), float(has_bias), device=inputs.device)
            inputs = torch.cat([inputs, ones], 1)
        weight = plain * scale
        split = fitted * entering.shape[1]
        for sums, rows in ((seen.fit, slice(0, split)), (seen.held_out, slice(split, None))):
            if len(inputs[rows]):
                sums.add(*(each[rows].to(device) for each in (inputs, lacking, weight)))
        if split < len(inputs):
            seen.judge(target[split:], left[split:], plain[split:])
    return seen


def _watched(runner: LayerRunner, layer: int, path: str, entering: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What enters a map, what leaves it, and what leaves the layer, each float32 (tokens, channels)."""
    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend(each.reshape(-1, each.shape[-1]).float() for each in (args[0], output))

    handle = runner.layers[layer].get_submodule(path).register_forward_hook(hook)
    try:
        left = runner.run(layer, entering)
    finally:
        handle.remove()
    return seen[0], seen[1], left.flatten(0, -2).float()


def _before_norm(
    module: nn.Module, family: Family, path: str, lacking: Tensor, outputs: Tensor
) -> tuple[Tensor, Tensor | float]:
    """What the map's own output lacks, and the squared scale between that and the layer's output.

    Args:
        module: the layer.
        family: its table.
        path: the map.
        lacking: what the layer's output lacks, (tokens, hidden_size).
        outputs: what leaves the map, (tokens, hidden_size).
    """
    multiplier = float(getattr(module, "residual_multiplier", 1.0))  # Granite's
    if "post_feedforward_layernorm" not in family.norms:
        return lacking / multiplier, multiplier**2
    name = "post_feedforward_layernorm" if path == family.ffn_output else "post_attention_layernorm"
    gains = module.get_submodule(name)(torch.ones_like(outputs[:1])).float()
    size = outputs.square().mean(-1, keepdim=True).sqrt().clamp_min(1e-6)
    enough = gains.abs() > SMALL_GAIN * gains.abs().max()
    before = torch.where(enough, lacking / gains, 0) * size
    return before, gains.square().mean() / size[:, 0].square()


def token_weights(target: Tensor, kind: TokenWeight) -> Tensor:
    """What each token counts, (tokens,), by its target, (tokens, hidden_size)."""
    norms = torch.linalg.vector_norm(target, dim=-1)
    return torch.where(norms > 0, norms.clamp_min(1e-12) ** -POWER[kind], 0)


def squares(target: Tensor, left: Tensor, weight: Tensor) -> tuple[float, float]:
    """The weighted square of what an output lacks, and of its target."""
    lost, whole = ((weight * each.square().sum(-1)).double().sum() for each in (target - left, target))
    return float(lost), float(whole)
