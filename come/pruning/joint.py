"""One layer out of a window's, its units chosen together (ours): least squares over all units of all its layers.

1. Attention. The first layer's is kept, the only one that reads what it read before: its output map is fitted to what
   the window's attentions gave together in the original order. Or all KV groups of the window are run on what enters
   it, each behind its own layer's norm and looking ahead (``come.pruning.lookahead``), and are eliminated one by one
   from that fit.
2. FFN. All channels of the window are run on what the new layer's own attention leaves, looking ahead, and are
   eliminated likewise from the fit of what is then lacking of what leaves the window.
3. Each of the two output maps is the ridge solution for the units kept, held to their own columns.

How many units each layer gives is an outcome. With a layer that is kept whole nothing is eliminated: that is a removal
of the others with a refit of both maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import WindowStates
from come.models import Bundle
from come.models.depth import share
from come.models.family import path_of
from come.plan.steps import Concatenate
from come.pruning.joint_rules import JointRules
from come.pruning.joint_window import JointWindow
from come.pruning.lookahead import Lookahead, looking_ahead
from come.pruning.output_fit import OutputFit, energies
from come.transforms.concatenate import concatenate
from come.transforms.folding import input_names
from come.transforms.normal_equations import at_projection, token_weights, watched

MADE_BY = "joint merge"  # what a plan says of the weights


@dataclass(frozen=True)
class Candidate:
    """A layer that a window could become.

    Attributes:
        step: the units that are kept.
        tensors: the weights that are moved after it, by their names in the layer.
        strength: of the ridge that the FFN's output map was solved with.
        module: the layer, and ``origin``: the layer whose place in the config it takes over.
    """

    step: Concatenate
    tensors: dict[str, Tensor]
    strength: float
    module: nn.Module
    origin: int

    def placed(self, layers: str, place: int) -> dict[str, Tensor]:
        """``tensors`` by their names in a model whose layers are at the path ``layers``, this one at ``place``."""
        return {f"{layers}.{place}.{name}": value for name, value in self.tensors.items()}


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
    seen = JointWindow(bundle, runner, window, states, rules)
    ahead = Lookahead(bundle.shape.hidden_size, len(seen.layers))
    for batch in seen.as_it_is():
        if rules.joins_attention:
            ahead.add(batch.attention[0], batch.attention)
        seen.given.append(batch.given)
        seen.leaving.append(batch.leaving)
    found: list[Candidate] = []
    for whole in choices:
        found += _joined(seen, ahead) if whole is None else _candidates(seen, bundle, [whole])
    return found


def _joined(window: JointWindow, ahead: Lookahead) -> list[Candidate]:
    """The candidates with units of all layers of the window."""
    layers, rules = list(window.layers), window.rules
    matrices = {"attention": ahead.matrices(rules.lookahead)} if rules.lookahead and rules.joins_attention else {}
    return _candidates(window, looking_ahead(window.bundle, layers, matrices), layers)


def _candidates(window: JointWindow, bundle: Bundle, sources: list[int]) -> list[Candidate]:
    """The candidates with units of some layers of the window.

    Args:
        window: the window.
        bundle: the model; with several sources, their norms in it are folded and their attention looks ahead.
        sources: the layers whose units are used.
    """
    shape, family, rules = bundle.shape, bundle.family, window.rules
    joined = len(sources) > 1
    groups, moved = _attention(window, bundle, sources if rules.joins_attention else sources[:1])
    ratio = [len(each) / shape.kv_heads for each in groups]
    all_channels = list(range(shape.channels))

    def step(channels: list[list[int]], fold: bool = False) -> Concatenate:
        return Concatenate(window=window.window, ratio=ratio, kv_groups=groups, channels=channels, fold=fold)

    def whole(layer: int) -> list[list[int]]:
        return [all_channels if each == layer else [] for each in window.layers]

    def built(channels: list[list[int]], tensors: dict[str, Tensor]) -> tuple[nn.Module, int]:
        return _with(*concatenate(bundle, step(channels)), tensors)

    if joined and rules.lookahead:
        matrices = _ahead_of_ffn(window, *built(whole(sources[0]), moved))
        bundle = looking_ahead(bundle, sources, {"ffn": matrices})
    parts = [built(whole(layer), moved) for layer in sources]
    fit = _ffn_fit(window, bundle, parts)
    kept = fit.choose(rules.base) if joined else [all_channels]
    channels = _placed(window, sources, kept)
    shares = [ratio[layer - window.window[0]] for layer in sources]
    found = []
    for strength in rules.strengths:
        tensors = moved | fit.solve(kept, shares, strength)
        module, origin = built(channels, tensors)
        if joined:
            tensors |= {name: module.get_parameter(name).data for name in input_names(family, module)}
        found.append(Candidate(step(channels, fold=joined), tensors, strength, module, origin))
    return found


def _attention(window: JointWindow, bundle: Bundle, sources: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
    """Which KV groups of each layer of the window are kept, and the attention's output map."""
    path, units = bundle.family.attention_output, bundle.shape.kv_heads
    modules = [bundle.layers[layer] for layer in sources]

    def inputs(entering: Tensor) -> list[Tensor]:
        return [window.into(layer, path, entering, each) for layer, each in zip(sources, modules, strict=True)]

    fit = OutputFit(bundle, modules, path, units, _likely(window, modules, path, units, inputs))
    for entering, given, leaving in window.batches():
        fit.add(inputs(entering), given, token_weights(leaving.flatten(0, -2).float(), "norm"))
    kept = fit.choose(window.rules.base) if len(sources) > 1 else [list(range(units))]
    ratio = [len(each) / units for each in kept]
    return _placed(window, sources, kept), fit.solve(kept, ratio, window.rules.base)


def _ahead_of_ffn(window: JointWindow, module: nn.Module, origin: int) -> list[Tensor]:
    """What predicts, of what a new layer's FFN reads, what those of the window's layers read in their own places."""
    ahead = Lookahead(window.bundle.shape.hidden_size, len(window.layers))
    path = path_of(window.bundle.family.ffn_inputs[0])
    for (entering, _, _), batch in zip(window.batches(), window.as_it_is(), strict=True):
        ahead.add(window.into(origin, path, entering, module), batch.ffn)
    return ahead.matrices(window.rules.lookahead)


def _ffn_fit(window: JointWindow, bundle: Bundle, parts: Sequence[tuple[nn.Module, int]]) -> OutputFit:
    """The fit of what the window gives beyond the new layer's attention; ``parts`` has each FFN behind that."""
    family, units = bundle.family, bundle.shape.channels
    path = family.ffn_output
    (first, origin), *others = parts

    def inputs(entering: Tensor) -> list[Tensor]:
        return [window.into(at, path, entering, module) for module, at in parts]

    modules = [module for module, _ in parts]
    fit = OutputFit(bundle, modules, path, units, _likely(window, modules, path, units, inputs))
    for entering, _, leaving in window.batches():
        target = leaving.flatten(0, -2).float()
        seen, projected, after = watched(window.runner, origin, path, entering, first)
        residual, _ = at_projection(first, family, path, target - after, projected)
        rest = [window.into(at, path, entering, module) for module, at in others]
        fit.add([seen, *rest], projected + residual, token_weights(target, "norm"))
    return fit


def _likely(
    window: JointWindow,
    modules: Sequence[nn.Module],
    path: str,
    units: int,
    inputs: Callable[[Tensor], list[Tensor]],
) -> Tensor | None:
    """The units that add most on the first tokens, where there are more than are eliminated from."""
    bundle = window.bundle
    width = bundle.family.matrix(modules[0], path).shape[1] // units
    pool = max(units, window.rules.pool * bundle.shape.channels // width)
    if len(modules) * units <= pool:
        return None
    entering = next(window.batches())[0]
    added = energies(bundle, modules, path, units, inputs(entering))
    return added.topk(pool).indices.sort().values


def _placed(window: JointWindow, sources: list[int], kept: list[list[int]]) -> list[list[int]]:
    """By layer of the window, what is kept of it."""
    of = dict(zip(sources, kept, strict=True))
    return [of.get(layer, []) for layer in window.layers]


def _with(module: nn.Module, origin: int, tensors: dict[str, Tensor]) -> tuple[nn.Module, int]:
    """A copy of a layer with other weights, and the same place."""
    module = share(module)
    for name, value in tensors.items():
        path, _, own = name.rpartition(".")
        setattr(module.get_submodule(path), own, nn.Parameter(value, requires_grad=False))
    return module, origin
