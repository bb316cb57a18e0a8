"""Least-squares refit: the output maps of a layer, moved so that the layer gives what its window gave.

The layer's output is linear in the map that its FFN ends with, so the best change of that map on the calibration
tokens has a closed form, and needs sums over tokens only: (channels, channels) and (channels, hidden_size). The idea of
closed-form reconstruction is in Kwon et al. 2022, arXiv 2204.09656. The attention's output map is treated likewise, as
if the FFN above it did not react; where a norm follows a map (Gemma, OLMo 2), its scale is taken as it is. So whatever
was solved for is run on held-out tokens, and taken only where the layer really comes nearer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.measure.borders import Borders
from come.measure.runner import LayerRunner
from come.measure.suffix import states_at
from come.measure.walk import batches
from come.merge.ridge import Sums, best_solution
from come.models import Bundle, Family

TokenWeight = Literal["norm", "squared-norm", "none"]
StateBatches = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Gives, again at every call, batches of what enters a layer and what should leave it, (sequences, tokens, channels)
each."""

POWER = {"norm": 1.0, "squared-norm": 2.0, "none": 0.0}
SMALL_GAIN = 1e-3  # a channel that a norm scales by less than this share of the largest is left alone


@dataclass(frozen=True)
class RefitRules:
    """How a refit is done.

    Attributes:
        maps: refit the map that the "ffn" ends with, or that of the attention before it ("both").
        token_weight: weigh a token by 1 / its target's "norm", by the "squared-norm", or "none". Without weights a
            few massive activations own the fit.
        strengths: what the ridge is chosen from on held-out tokens, as a share of the mean diagonal of the sums.
    """

    maps: Literal["ffn", "both"] = "ffn"
    token_weight: TokenWeight = "norm"
    strengths: Sequence[float] = (1e-3, 1e-2, 1e-1)

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        if self.maps not in ("ffn", "both"):
            raise ComeError(f"There are no maps {self.maps!r} to refit.", "Choose 'ffn' or 'both'.")
        if self.token_weight not in POWER:
            raise ComeError(f"There is no token weight {self.token_weight!r}.", f"Choose from {', '.join(POWER)}.")
        if not self.strengths or any(strength <= 0 for strength in self.strengths):
            raise ComeError("A refit needs ridge strengths above 0.", "Give a short list, such as 0.001, 0.01, 0.1.")


@dataclass(frozen=True)
class Refit:
    """What a refit of one layer came to.

    Attributes:
        tensors: the new weights and biases, by their names in the layer, in its dtype; none where nothing helped.
        before, after: the weighted squared error on held-out tokens, as a share of the targets' own.
        strengths: by map, the ridge strength that was chosen.
    """

    tensors: dict[str, Tensor]
    before: float
    after: float
    strengths: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def refit_layer(runner: LayerRunner, layer: int, fit: StateBatches, held_out: StateBatches, rules: RefitRules) -> Refit:
    """Refit the output maps of one layer of ``runner``, whose own layer is changed; the user's model is not.

    Args:
        runner: the model; it has entered tokens of the shape of each batch.
        layer: which layer.
        fit: the tokens that are solved for.
        held_out: the tokens that the ridge strength is chosen on, and that decide whether the solution is taken.
        rules: how.
    """
    family, module = runner.family, runner.layers[layer]
    before = error = _error(runner, layer, held_out, rules)
    tensors: dict[str, Tensor] = {}
    chosen: dict[str, float] = {}
    paths = (family.attention_output, family.ffn_output) if rules.maps == "both" else (family.ffn_output,)
    for path in paths:
        if error == 0:
            break
        sums, held_sums = (_sums(runner, layer, path, states, rules) for states in (fit, held_out))
        solved = best_solution(sums, held_sums, rules.strengths)
        if solved is None:
            continue
        strength, change = solved
        old = dict(module.get_submodule(path).named_parameters(recurse=False))
        new = _changed(old, change, family.transposed)
        _put(module, path, new)
        now = _error(runner, layer, held_out, rules)
        if now < error:
            error, chosen[path] = now, strength
            tensors |= {f"{path}.{name}": value for name, value in new.items()}
        else:
            _put(module, path, old)
    return Refit(tensors, before, error, chosen)


def refit_merge(
    before: LayerRunner,
    after: Bundle,
    window: tuple[int, int],
    tokens: Tensor,
    rules: RefitRules,
    *,
    held_out: int,
    borders: Borders | None = None,
    batch_size: int | None = None,
) -> Refit:
    """Refit the layer that a window has just become, to what the window gave on the same states.

    Args:
        before: the model before the merge.
        after: the model after it; the new layer is at the window's first.
        window: (first, last), in the numbering before the merge.
        tokens: calibration tokens, int64 (sequences, tokens).
        rules: how.
        held_out: how many sequences, the last ones, are held out.
        borders: hidden states of the model before the merge.
        batch_size: as the borders were made with.
    """
    first, last = window
    runner = LayerRunner(after)

    def states(of_held_out: bool) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in batches(tokens, batch_size):
            size = batch_size_of(tokens, batch_size)
            fitted = max(0, min(len(batch.tokens), len(tokens) - held_out - batch.index * size))
            rows = slice(fitted, None) if of_held_out else slice(0, fitted)
            if not len(batch.tokens[rows]):
                continue
            entering = states_at(before, batch.index, batch.tokens, first, borders)
            kept = borders.get(batch.index, last + 1) if borders is not None else None
            if kept is not None:
                wanted = kept.to(entering.device)
            else:
                wanted = entering
                for layer in range(first, last + 1):
                    wanted = before.run(layer, wanted)
            runner.enter(batch.tokens[rows])
            yield entering[rows], wanted[rows]

    return refit_layer(runner, first, lambda: states(False), lambda: states(True), rules)


def batch_size_of(tokens: Tensor, batch_size: int | None) -> int:
    """How many sequences a batch has."""
    return len(next(batches(tokens, batch_size)).tokens)


def _sums(runner: LayerRunner, layer: int, path: str, states: StateBatches, rules: RefitRules) -> Sums:
    """The sums of one map of a layer over batches."""
    module = runner.layers[layer]
    linear = module.get_submodule(path)
    matrix = runner.family.matrix(module, path)
    silenced = (matrix == 0).all(0)  # units that a mask took out stay out
    has_bias = getattr(linear, "bias", None) is not None and not bool(silenced.all())
    device = matrix.device if matrix.device.type != "mps" else torch.device("cpu")  # no float64 there
    channels = matrix.shape[1] + (getattr(linear, "bias", None) is not None)
    sums = Sums(
        torch.zeros(channels, channels, dtype=torch.float64, device=device),
        torch.zeros(channels, matrix.shape[0], dtype=torch.float64, device=device),
    )
    for entering, wanted in states():
        inputs, outputs, left = _watched(runner, layer, path, entering)
        target = wanted.to(left.device).flatten(0, -2).float()
        lacking, scale = _before_norm(module, runner.family, path, target - left, outputs)
        inputs = inputs.masked_fill(silenced, 0)
        if channels > inputs.shape[1]:
            ones = torch.full((len(inputs), 1), float(has_bias), device=inputs.device)
            inputs = torch.cat([inputs, ones], 1)
        weight = _token_weights(target, rules.token_weight) * scale
        sums.add(*(each.to(device) for each in (inputs, lacking, weight)))
    return sums


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


def _token_weights(target: Tensor, kind: TokenWeight) -> Tensor:
    norms = torch.linalg.vector_norm(target, dim=-1)
    return torch.where(norms > 0, norms.clamp_min(1e-12) ** -POWER[kind], 0)


def _error(runner: LayerRunner, layer: int, states: StateBatches, rules: RefitRules) -> float:
    """The weighted squared error of a layer's output, as a share of the targets' own weighted square."""
    error = whole = 0.0
    for entering, wanted in states():
        left = runner.run(layer, entering).flatten(0, -2).float()
        target = wanted.to(left.device).flatten(0, -2).float()
        weight = _token_weights(target, rules.token_weight)
        error += float((weight * (target - left).square().sum(-1)).double().sum())
        whole += float((weight * target.square().sum(-1)).double().sum())
    return error / whole if whole else 0.0


def _changed(old: dict[str, nn.Parameter], change: Tensor, transposed: bool) -> dict[str, Tensor]:
    """A map's weight, and its bias where it has one, after a change of (channels, hidden_size)."""
    weight = old["weight"]
    columns = change[: weight.shape[0 if transposed else 1]]
    new = {"weight": columns if transposed else columns.T}
    if "bias" in old:
        new["bias"] = change[-1]
    return {
        name: (old[name].double().to(value.device) + value).to(weight.device, weight.dtype).contiguous()
        for name, value in new.items()
    }


def _put(module: nn.Module, path: str, tensors: dict[str, Tensor] | dict[str, nn.Parameter]) -> None:
    for name, value in tensors.items():
        parameter = value if isinstance(value, nn.Parameter) else nn.Parameter(value, requires_grad=False)
        setattr(module.get_submodule(path), name, parameter)
