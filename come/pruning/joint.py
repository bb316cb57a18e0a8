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
from come.models import Bundle, Facts
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
        strengths: of the ridge that the FFN's map is solved with, as shares of the mean diagonal: a candidate each.
        base: the one that units are eliminated with and the attention's map is solved with.
    """

    strengths: tuple[float, ...] = (0.3, 1.0)
    base: float = 0.3


@torch.no_grad()
def joint_candidates(
    bundle: Bundle,
    runner: LayerRunner,
    window: tuple[int, int],
    states: WindowStates,
    rules: JointRules,
    choices: Sequence[int | None] = (None,),
) -> list[Candidate]:
    """The layers that a window could become.

    Args:
        bundle: the model, and ``runner``: it.
        window: (first, last).
        states: what enters the window.
        rules: how.
        choices: None to choose units of all layers, or a layer of the window that is kept whole while the others go.

    Returns:
        for each choice, one a ridge strength.
    """
    attention, leaving = _attention_fit(bundle, runner, window, states)
    found: list[Candidate] = []
    for whole in choices:
        found += _choice(bundle, runner, window, states, rules, whole, attention, leaving)
    return found


def fit_products(facts: Facts, size: int, n_tokens: int, strengths: int) -> float:
    """Floating-point operations in float32 of fitting a window of ``size`` layers, and all but one of them removed."""
    hidden, total = facts.hidden_size, 0.0
    for inputs, kept in ((facts.num_attention_heads * facts.head_dim, 1), (facts.intermediate_size, strengths)):
        units = size * inputs
        sums = n_tokens * (units * (1.125 * units + 2 * hidden) + inputs * (1.125 * inputs + 2 * hidden))
        eliminated = units**3 + 2 * units**2 * (hidden + inputs * (size - 1))
        solved = 2 * kept * (inputs**3 / 3 + 2 * inputs**2 * hidden)
        total += sums + eliminated + solved
    return total


def _attention_fit(
    bundle: Bundle, runner: LayerRunner, window: tuple[int, int], states: WindowStates
) -> tuple[_Fit, list[Tensor]]:
    """The fit of what a window's attentions give together; and what leaves the window, batch by batch."""
    first, last = window
    path, layers = bundle.family.attention_output, range(first, last + 1)
    fit = _Fit(bundle, [bundle.layers[layer] for layer in layers], path, bundle.shape.kv_heads)
    leaving: list[Tensor] = []
    for tokens, entering in states():
        runner.enter(tokens)
        inputs, given, state = [], torch.zeros(()), entering
        for layer in layers:
            seen, projected, after = watched(runner, layer, path, state)
            given = given + projected
            inputs.append(seen if layer == first else _seen_first(runner, layer, path, entering))
            state = after.view(entering.shape).to(entering.dtype)
        leaving.append(state)
        fit.add(inputs, given, token_weights(state.flatten(0, -2).float(), "norm"))
    return fit, leaving


def _choice(
    bundle: Bundle,
    runner: LayerRunner,
    window: tuple[int, int],
    states: WindowStates,
    rules: JointRules,
    whole: int | None,
    attention: _Fit,
    leaving: Sequence[Tensor],
) -> list[Candidate]:
    """The candidates of one choice, given the fit of the attention."""
    layers, shape, family = range(window[0], window[1] + 1), bundle.shape, bundle.family
    all_groups, all_channels = list(range(shape.kv_heads)), list(range(shape.channels))

    def only(layer: int, every: list[int]) -> list[list[int]]:
        return [every if each == layer else [] for each in layers]

    groups = attention.choose(rules.base) if whole is None else only(whole, all_groups)
    ratio = [len(each) / shape.kv_heads for each in groups]
    moved = attention.solve(groups, ratio, rules.base)

    def step(channels: list[list[int]]) -> Concatenate:
        return Concatenate(window=window, ratio=ratio, kv_groups=groups, channels=channels, fold=True)

    sources = list(layers) if whole is None else [whole]
    parts = [_with(*concatenate(bundle, step(only(layer, all_channels))), moved) for layer in sources]
    ffn = _Fit(bundle, [bundle.layers[layer] for layer in sources], family.ffn_output, shape.channels)
    for (tokens, entering), left in zip(states(), leaving, strict=True):
        runner.enter(tokens)
        target = left.flatten(0, -2).float()
        module, origin = parts[0]
        seen, projected, after = watched(runner, origin, family.ffn_output, entering, module)
        residual, _ = at_projection(module, family, family.ffn_output, target - after, projected)
        others = [_seen_first(runner, origin, family.ffn_output, entering, module) for module, origin in parts[1:]]
        ffn.add([seen, *others], projected + residual, token_weights(target, "norm"))
    kept = ffn.choose(rules.base) if whole is None else [all_channels]
    chosen = step(kept if whole is None else only(whole, all_channels))
    module, origin = concatenate(bundle, chosen)
    shares = ratio if whole is None else [1.0]
    solved = [moved | ffn.solve(kept, shares, strength) for strength in rules.strengths]
    return [
        Candidate(chosen, tensors, strength, *_with(module, origin, tensors))
        for strength, tensors in zip(rules.strengths, solved, strict=True)
    ]


def _seen_first(
    runner: LayerRunner, layer: int, path: str, entering: Tensor, module: nn.Module | None = None
) -> Tensor:
    """What enters the map at ``path``, float32 (tokens, channels); nothing of the layer is run after that."""

    class Seen(Exception):
        pass

    seen: list[Tensor] = []

    def hook(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
        seen.append(args[0].reshape(-1, args[0].shape[-1]).float())
        raise Seen

    handle = (module or runner.layers[layer]).get_submodule(path).register_forward_pre_hook(hook)
    try:
        runner.run(layer, entering, module)
    except Seen:
        pass
    finally:
        handle.remove()
    return seen[0]


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
        self.width, self.dtype = weights[0].shape[1], weights[0].dtype
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
        solution = torch.cholesky_solve(wanted, torch.linalg.cholesky(system))
        weight = solution[: len(rows) - bool(self.biases)]
        new = {f"{self.path}.weight": weight if self.family.transposed else weight.T}
        if self.biases:
            new[f"{self.path}.bias"] = solution[-1]
        return {name: value.to(self.dtype).contiguous() for name, value in new.items()}

    def _system(self, rows: Tensor, ratio: Sequence[float], strength: float) -> tuple[Tensor, Tensor]:
        """The ridge system of some inputs, held to their own columns, and what it is solved for; float64."""
        own = self.own
        if self.biases:
            shares = torch.tensor(ratio, device=own.device)
            own = torch.cat([own, (shares[:, None] * torch.stack(self.biases)).sum(0, keepdim=True)])
        gram = self.sums.gram
        pull = strength * float(gram.diagonal().mean())
        system = (gram.triu() + gram.triu(1).T)[rows][:, rows]
        system.diagonal().add_(pull)
        return system, self.sums.cross[rows] + pull * own[rows].double()
