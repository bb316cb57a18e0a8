"""One layer out of a window's, its units chosen together (ours): least squares over all units of all its layers.

1. Attention. All KV groups of the window are run on what enters it, each behind its own layer's norm. They are
   eliminated one by one from the fit of what the window's attentions gave together in the original order.
2. FFN. All channels are run on what the new layer's own attention leaves, and are eliminated likewise from the fit of
   what is then lacking of what leaves the window.
3. Each of the two output maps is the ridge solution for the units kept, held to their own columns.

How many units each layer gives is an outcome, for attention and FFN apart. With a layer that is kept whole nothing is
eliminated: that is a removal of the others with a refit of both maps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.depth import share
from come.models.family import unit_rows
from come.plan.steps import Concatenate
from come.transforms.concatenate import concatenate
from come.transforms.elimination import eliminate
from come.transforms.normal_equations import at_projection, token_weights, watched
from come.transforms.ridge import Sums, empty_sums

WindowStates = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""Gives, again at every call, batches of the tokens that enter the model, (sequences, tokens), and of the hidden states
that enter the window, (sequences, tokens, hidden_size)."""


@dataclass(frozen=True)
class Candidate:
    """A layer that a window could become.

    Attributes:
        step: the units that are kept.
        tensors: the output maps after it, by their names in the layer.
        strength: of the ridge that they were solved with.
        module: the layer, and ``origin``: the layer whose place in the config it takes over.
    """

    step: Concatenate
    tensors: dict[str, Tensor]
    strength: float
    module: nn.Module
    origin: int


@dataclass(frozen=True)
class JointRules:
    """How units are chosen and maps are solved for.

    Attributes:
        strengths: of the ridge, as a share of the mean diagonal: one candidate each.
        selection: the one that units are eliminated with.
        attention: the one that the attention's map is solved with.
    """

    strengths: tuple[float, ...] = (0.1, 0.5)
    selection: float = 0.1
    attention: float = 0.1


@torch.inference_mode()
def joint_candidates(
    bundle: Bundle,
    runner: LayerRunner,
    window: tuple[int, int],
    states: WindowStates,
    rules: JointRules,
    whole: int | None = None,
) -> list[Candidate]:
    """The layers that a window could become, one a ridge strength.

    Args:
        bundle: the model, and ``runner``: it.
        window: (first, last).
        states: what enters the window.
        rules: how.
        whole: a layer of the window that is kept whole while the others go; None to choose units of all.
    """
    first, last = window
    layers, shape, family = range(first, last + 1), bundle.shape, bundle.family
    all_groups, all_channels = list(range(shape.kv_heads)), list(range(shape.channels))

    def only(layer: int, every: list[int]) -> list[list[int]]:
        return [every if each == layer else [] for each in layers]

    attention = _Fit(bundle, [bundle.layers[layer] for layer in layers], family.attention_output, shape.kv_heads)
    leaving: list[Tensor] = []
    for tokens, entering in states():
        runner.enter(tokens)
        inputs, given, state = [], torch.zeros(()), entering
        for layer in layers:
            seen, projected, after = watched(runner, layer, family.attention_output, state)
            given = given + projected
            inputs.append(seen if layer == first else watched(runner, layer, family.attention_output, entering)[0])
            state = after.view(entering.shape).to(entering.dtype)
        leaving.append(state)
        attention.add(inputs, given, token_weights(state.flatten(0, -2).float(), "norm"))
    groups = attention.choose(rules.selection) if whole is None else only(whole, all_groups)
    ratio = [len(each) / shape.kv_heads for each in groups]

    def step(channels: list[list[int]]) -> Concatenate:
        return Concatenate(window=window, ratio=ratio, kv_groups=groups, channels=channels, fold=True)

    moved = attention.solve(groups, ratio, rules.attention)
    parts = {layer: _with(*concatenate(bundle, step(only(layer, all_channels))), moved) for layer in layers}
    seen_of = list(layers) if whole is None else [whole]
    ffn = _Fit(bundle, [bundle.layers[layer] for layer in seen_of], family.ffn_output, shape.channels)
    for number, (tokens, entering) in enumerate(states()):
        runner.enter(tokens)
        inputs = []
        target, lacking = leaving[number].flatten(0, -2).float(), torch.zeros(())
        for layer in seen_of:
            module, origin = parts[layer]
            seen, projected, after = watched(runner, origin, family.ffn_output, entering, module)
            inputs.append(seen)
            if layer == seen_of[0]:
                residual, _ = at_projection(module, family, family.ffn_output, target - after, projected)
                lacking = projected + residual
        ffn.add(inputs, lacking, token_weights(target, "norm"))
    if whole is None:
        chosen = step(ffn.choose(rules.selection))
        kept = chosen.channels
    else:
        chosen, kept = step(only(whole, all_channels)), [all_channels]
    module, origin = concatenate(bundle, chosen)
    candidates = []
    for strength in rules.strengths:
        tensors = moved | ffn.solve(kept, ratio if whole is None else [1.0], strength)
        candidates.append(Candidate(chosen, tensors, strength, *_with(module, origin, tensors)))
    return candidates


def _with(module: nn.Module, origin: int, tensors: dict[str, Tensor]) -> tuple[nn.Module, int]:
    """A copy of a layer with other output maps, and the same place."""
    module = share(module)
    for name, value in tensors.items():
        path, _, own = name.rpartition(".")
        setattr(module.get_submodule(path), own, nn.Parameter(value, requires_grad=False))
    return module, origin


class _Fit:
    """The normal equations of an output map from the units of several layers at once."""

    def __init__(self, bundle: Bundle, layers: Sequence[nn.Module], path: str, units: int) -> None:
        self.family, self.layers, self.path, self.units = bundle.family, layers, path, units
        weights = [bundle.family.matrix(layer, path) for layer in layers]
        self.width = weights[0].shape[1]
        self.own = torch.cat([weight.T.float() for weight in weights])  # (inputs, hidden_size)
        self.biases = [
            bias.float() for layer in layers if (bias := getattr(layer.get_submodule(path), "bias", None)) is not None
        ]
        self.sums: Sums = empty_sums(len(self.own) + bool(self.biases), self.own.shape[1], self.own.device)

    def add(self, inputs: Sequence[Tensor], target: Tensor, weight: Tensor) -> None:
        """Add tokens: the layers' inputs, (tokens, inputs) each, the output wanted, (tokens, hidden_size), weights."""
        ones = [torch.ones(len(target), 1, device=target.device)] * bool(self.biases)
        self.sums.add(torch.cat([*inputs, *ones], 1), target, weight)

    def choose(self, strength: float) -> list[list[int]]:
        """The units that are kept of each layer, as many in all as a layer has."""
        even = [1 / len(self.layers)] * len(self.layers)
        system, wanted = self._system(torch.arange(len(self.sums.gram)), even, strength)
        table = torch.arange(len(self.layers) * self.width).view(len(self.layers) * self.units, -1)
        kept = eliminate(system.float(), wanted.float(), table.to(system.device), self.units)
        return [[unit - self.units * at for unit in kept if unit // self.units == at] for at in range(len(self.layers))]

    def solve(self, kept: Sequence[Sequence[int]], ratio: Sequence[float], strength: float) -> dict[str, Tensor]:
        """The map of the units kept, as tensors by their names in the layer, in its dtype."""
        table = unit_rows(self.path, self.width, self.units)[0]
        rows = torch.cat([table[list(units)].flatten() + at * self.width for at, units in enumerate(kept)])
        if self.biases:
            rows = torch.cat([rows, torch.tensor([len(self.own)])])
        system, wanted = self._system(rows, ratio, strength)
        solution = torch.linalg.solve(system.triu() + system.triu(1).T, wanted)
        module = self.layers[0].get_submodule(self.path)
        weight = solution[: len(rows) - bool(self.biases)]
        new = {f"{self.path}.weight": weight if self.family.transposed else weight.T}
        if self.biases:
            new[f"{self.path}.bias"] = solution[-1]
        return {name: value.to(module.weight.dtype).contiguous() for name, value in new.items()}

    def _system(self, rows: Tensor, ratio: Sequence[float], strength: float) -> tuple[Tensor, Tensor]:
        """The ridge system of some inputs, held to their own columns, and what it is solved for; float64."""
        own = self.own
        if self.biases:
            bias = sum(share * each for share, each in zip(ratio, self.biases, strict=True))
            own = torch.cat([own, bias[None]])  # type: ignore[index]
        gram = self.sums.gram
        pull = strength * float(gram.diagonal().mean())
        system = (gram.triu() + gram.triu(1).T)[rows][:, rows]
        system.diagonal().add_(pull)
        return system, self.sums.cross[rows] + pull * own[rows].double()
