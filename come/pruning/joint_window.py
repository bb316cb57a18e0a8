"""A window of a model as a joint merge sees it: what its layers read and give, and what a new layer would read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import WindowStates
from come.models import Bundle
from come.models.family import path_of
from come.pruning.joint_rules import JointRules
from come.transforms.folding import folded_norms, plain_norm
from come.transforms.normal_equations import watched


@dataclass(frozen=True)
class WindowBatch:
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
class JointWindow:
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
        """The numbers of its layers."""
        return range(self.window[0], self.window[1] + 1)

    def as_it_is(self) -> Iterator[WindowBatch]:
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
            yield WindowBatch(*read, given, state)

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
