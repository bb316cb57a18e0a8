"""Running the decoder layers of an unmodified Transformers model one at a time.

The other arguments of a layer (mask, rotary tables, positions) depend on the shape of the batch and on the layer's
kind, not on the hidden states. So the trunk is run once for each shape with recorders in the place of its layers, which
costs an embedding look-up; after that any layer can be run on any hidden states exactly as the model would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from come.models import Bundle
from come.models.depth import share
from come.models.not_finite import why_not_finite

Call = tuple[tuple[Any, ...], dict[str, Any]]


class LayerRunner:
    """A model's layers, ready to be run singly, on modules of its own over the model's weights."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle, self.family = bundle, bundle.family
        self.entered: Tensor | None = None  # the tokens that were entered last
        model = share(bundle.model)
        self.layers: list[nn.Module] = list(model.get_submodule(self.family.layers))
        self._trunk = model.get_submodule(self.family.trunk)
        self._norm = model.get_submodule(self.family.final_norm)
        self._model = model
        device = model.get_input_embeddings().weight.device
        self._device = torch.device("cpu") if device.type == "meta" else device  # a hook moves what comes in
        self._calls: dict[torch.Size, list[Call]] = {}
        self._recorded: list[Call] = []
        in_a_tuple = self.family.tuple_output
        recorders = nn.ModuleList(_Recorder(layer, self._recorded, in_a_tuple) for layer in self.layers)
        model.set_submodule(self.family.layers, recorders)
        model.set_submodule(self.family.trunk, _GivenStates())

    def __len__(self) -> int:
        return len(self.layers)

    def enter(self, tokens: Tensor) -> Tensor:
        """The hidden states that enter the first layer, (sequences, tokens, hidden_size)."""
        self._recorded.clear()
        self.entered = tokens
        self._trunk(input_ids=tokens.to(self._device), use_cache=False)
        self._calls[tokens.shape] = [call for _, *call in self._recorded]  # type: ignore[misc]
        return self._recorded[0][0]  # type: ignore[return-value]

    def call(self, layer: int, shape: torch.Size) -> Call:
        """A layer's arguments beside the hidden states, for tokens of a shape, (sequences, tokens), entered before."""
        return self._calls[shape][layer]

    def run(self, layer: int, hidden_states: Tensor, module: nn.Module | None = None) -> Tensor:
        """The output of a layer, or of ``module`` in its place, for hidden states (sequences, tokens, hidden_size).

        ``enter`` must have been called with tokens of this shape before.
        """
        args, kwargs = self.call(layer, hidden_states.shape[:2])
        output = (module or self.layers[layer])(hidden_states, *args, **kwargs)
        return output if isinstance(output, Tensor) else output[0]

    def norm(self, hidden_states: Tensor) -> Tensor:
        """The hidden states after the final norm."""
        return self._norm(hidden_states)  # type: ignore[no-any-return]

    def logits(self, normed: Tensor) -> Tensor:
        """The logits of hidden states that the final norm has seen, (..., vocabulary), float32.

        The model's own code makes them, so that whatever it does after the head (a soft cap, a scale) is done.
        """
        states = normed if normed.ndim == 3 else normed[None]
        logits: Tensor = self._model(inputs_embeds=states, use_cache=False, return_dict=True).logits
        return logits.view(*normed.shape[:-1], -1).float()

    @contextmanager
    def watching(self, layer: int, see: dict[str, Callable[[Tensor], None]]) -> Iterator[None]:
        """Within, ``see[path]`` is called with the input of the map at ``path`` of the layer, at each run of it."""

        def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _module, args: see[path](args[0])

        handles = [self.layers[layer].get_submodule(path).register_forward_pre_hook(hook(path)) for path in see]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def check_finite(values: Tensor, runner: LayerRunner) -> None:
    """Refuse values that overflowed, or came of weights that are not numbers: nothing is decided from them.

    Args:
        values: what something would be decided from, of any shape.
        runner: the model that gave them, on the tokens that it was entered with last.

    Raises:
        ComeError: some value is infinite or not a number; names the layer or the weights (``why_not_finite``).
    """
    if not bool(values.isfinite().all()):
        raise why_not_finite(runner.bundle, runner.entered)


class _Recorder(nn.Module):
    """Stands in for a decoder layer: records its arguments and returns the hidden states unchanged."""

    def __init__(self, layer: nn.Module, calls: list[Any], in_a_tuple: bool) -> None:
        super().__init__()
        self.__dict__["_layer"] = layer  # not registered: it must not count as a submodule
        self._calls = calls
        self._in_a_tuple = in_a_tuple

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_layer"], name)

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor | tuple[Tensor, None]:
        self._calls.append((hidden_states, args, kwargs))
        return (hidden_states, None) if self._in_a_tuple else hidden_states


class _GivenStates(nn.Module):
    """Stands in for the trunk where only the head is wanted: returns the hidden states that it is given."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
