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

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import WindowStates
from come.models import Bundle, Facts
from come.models.depth import share
from come.models.family import path_of
from come.plan.steps import Concatenate
from come.pruning.lookahead import Lookahead, looking_ahead
from come.pruning.output_fit import OutputFit, energies
from come.transforms.concatenate import concatenate
from come.transforms.folding import folded_norms, input_names, plain_norm
from come.transforms.normal_equations import at_projection, token_weights, watched

AttentionOf = Literal["first", "chosen"]
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


@dataclass(frozen=True)
class JointRules:
    """How units are chosen and maps are solved for.

    Attributes:
        strengths: of the ridge that the FFN's map is solved with, as shares of the mean diagonal: a candidate each.
        base: the one that units are eliminated with and the attention's map is solved with.
        lookahead: of the ridge that what later layers read is predicted with; 0 for no prediction.
        pool: units are eliminated from those that add most, as many as have the inputs of so many layers' FFNs.
        attention: whether the first layer's KV groups are all kept, or those of all layers are chosen together.
    """

    strengths: tuple[float, ...] = (0.3,)
    base: float = 0.3
    lookahead: float = 0.1
    pool: int = 2
    attention: AttentionOf = "first"

    @property
    def joins_attention(self) -> bool:
        """Whether KV groups of several layers become one attention."""
        return self.attention == "chosen"


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
    seen = _Window(bundle, runner, window, states, rules)
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


def fit_products(facts: Facts, size: int, n_tokens: int, rules: JointRules) -> float:
    """Floating-point operations in float32 of fitting a window of ``size`` layers, and all but one of them removed."""
    hidden, total, strengths = facts.hidden_size, 0.0, len(rules.strengths)
    heads = facts.num_attention_heads * facts.head_dim
    for inputs, kept, layers in (
        (heads, 1, size if rules.joins_attention else 1),
        (facts.intermediate_size, strengths, size),
    ):
        units = min(layers * inputs, rules.pool * facts.intermediate_size)
        sums = n_tokens * (units * (1.125 * units + 2 * hidden) + inputs * (1.125 * inputs + 2 * hidden))
        eliminated = (units**3 + 2 * units**2 * (hidden + units - inputs)) * (layers > 1)
        solved = 2 * kept * (inputs**3 / 3 + 2 * inputs**2 * hidden)
        total += sums + eliminated + solved
    rows = heads * (1 + 2 * facts.num_key_value_heads / facts.num_attention_heads) + 2 * facts.intermediate_size
    predicted = 2 * hidden**2 * (n_tokens * (size + 1) + hidden * size) + 2 * hidden**2 * rows / 2 * size
    return total + (1 + rules.joins_attention) * predicted * bool(rules.lookahead)


@dataclass(frozen=True)
class _Batch:
    """A window as it is on some tokens: (tokens, hidden_size) each, float32.

    Attributes:
        attention, ffn: what the maps of each layer read, behind plain norms where these can be folded.
        given: what the attentions gave together.
        leaving: what leaves the window, (sequences, tokens, hidden_size), in the model's dtype.
    """

    attention: list[Tensor]
    ffn: list[Tensor]
    given: Tensor
    leaving: Tensor


@dataclass
class _Window:
    """A window of a model, and what is known of it."""

    bundle: Bundle
    runner: LayerRunner
    window: tuple[int, int]
    states: WindowStates
    rules: JointRules
    given: list[Tensor] = field(default_factory=list)
    leaving: list[Tensor] = field(default_factory=list)

    @property
    def layers(self) -> range:
        return range(self.window[0], self.window[1] + 1)

    def as_it_is(self) -> Iterator[_Batch]:
        """Run its layers one after the other, batch by batch."""
        family, layers = self.bundle.family, [self.bundle.layers[layer] for layer in self.layers]
        folded = [folded_norms(family, layer) for layer in layers]
        maps = path_of(family.attention_inputs[0]), path_of(family.ffn_inputs[0])
        for tokens, entering in self.states():
            self.runner.enter(tokens)
            read: tuple[list[Tensor], list[Tensor]] = ([], [])
            given, state = torch.zeros((), device=entering.device), entering
            for layer, module, norms in zip(self.layers, layers, folded, strict=True):
                at = [norms.get(path, path) for path in maps]
                seen: dict[str, Tensor] = {}
                with self.runner.watching(layer, {path: _into(seen, path) for path in at}):
                    _, projected, after = watched(self.runner, layer, family.attention_output, state)
                for part, path, of in zip(maps, at, read, strict=True):
                    raw = seen[path]
                    plain = plain_norm(family, module.get_submodule(path))(raw) if part in norms else raw
                    of.append(plain.flatten(0, -2).float())
                given = given + projected
                state = after.view(entering.shape).to(entering.dtype)
            yield _Batch(*read, given, state)

    def batches(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """What enters the window, what its attentions gave and what leaves it; the runner has entered the tokens."""
        for (tokens, entering), given, leaving in zip(self.states(), self.given, self.leaving, strict=True):
            self.runner.enter(tokens)
            yield entering, given, leaving

    def into(self, layer: int, path: str, entering: Tensor, module: nn.Module) -> Tensor:
        """What enters the map at ``path``, float32 (tokens, channels); nothing of the layer is run after that."""
        seen: list[Tensor] = []

        def stop(_module: nn.Module, args: tuple[Tensor, ...]) -> None:
            seen.append(args[0].reshape(-1, args[0].shape[-1]).float())
            raise _Seen

        handle = module.get_submodule(path).register_forward_pre_hook(stop)
        try:
            self.runner.run(layer, entering, module)
        except _Seen:
            pass
        finally:
            handle.remove()
        return seen[0]


class _Seen(Exception):
    """What was looked for has been seen."""


def _into(seen: dict[str, Tensor], path: str) -> Callable[[Tensor], None]:
    return lambda value: seen.__setitem__(path, value)


def _joined(window: _Window, ahead: Lookahead) -> list[Candidate]:
    """The candidates with units of all layers of the window."""
    layers, rules = list(window.layers), window.rules
    matrices = {"attention": ahead.matrices(rules.lookahead)} if rules.lookahead and rules.joins_attention else {}
    return _candidates(window, looking_ahead(window.bundle, layers, matrices), layers)


def _candidates(window: _Window, bundle: Bundle, sources: list[int]) -> list[Candidate]:
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


def _attention(window: _Window, bundle: Bundle, sources: list[int]) -> tuple[list[list[int]], dict[str, Tensor]]:
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


def _ahead_of_ffn(window: _Window, module: nn.Module, origin: int) -> list[Tensor]:
    """What predicts, of what a new layer's FFN reads, what those of the window's layers read in their own places."""
    ahead = Lookahead(window.bundle.shape.hidden_size, len(window.layers))
    path = path_of(window.bundle.family.ffn_inputs[0])
    for (entering, _, _), batch in zip(window.batches(), window.as_it_is(), strict=True):
        ahead.add(window.into(origin, path, entering, module), batch.ffn)
    return ahead.matrices(window.rules.lookahead)


def _ffn_fit(window: _Window, bundle: Bundle, parts: Sequence[tuple[nn.Module, int]]) -> OutputFit:
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
    window: _Window,
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


def _placed(window: _Window, sources: list[int], kept: list[list[int]]) -> list[list[int]]:
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
