"""Running the decoder layers of an unmodified Transformers model one at a time.

What a layer is called with (mask, rotary tables, positions) depends on the shape of the batch and on the layer's
kind, not on the hidden states. So the trunk is walked once a shape with recorders in the place of its layers, which
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
from come.models.offload import weight_of

Call = tuple[tuple[Any, ...], dict[str, Any]]


class LayerRunner:
    """A model's layers, ready to be run singly, on modules of its own over the model's weights."""

    def __init__(self, bundle: Bundle) -> None:
        self.family, self.dtype = bundle.family, bundle.dtype
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

    def weights(self) -> Iterator[Tensor]:
        """All weights of the model, one at a time, fetched where they are elsewhere."""
        for part in (self._trunk, *self.layers, self._model):
            for module in part.modules():
                for name in module._parameters:
                    if (weight := weight_of(module, name)) is not None:
                        yield weight

    def enter(self, tokens: Tensor) -> Tensor:
        """The hidden states that enter the first layer, (sequences, tokens, hidden_size)."""
        self._recorded.clear()
        self._trunk(input_ids=tokens.to(self._device), use_cache=False)
        self._calls[tokens.shape] = [call for _, *call in self._recorded]  # type: ignore[misc]
        return self._recorded[0][0]  # type: ignore[return-value]

    def call(self, layer: int, shape: torch.Size) -> Call:
        """What else a layer is called with, for tokens of a shape, (sequences, tokens), that were entered."""
        return self._calls[shape][layer]

    def run(self, layer: int, hidden_states: Tensor, module: nn.Module | None = None) -> Tensor:
        """The hidden states that leave a layer, or ``module`` in its place; ``enter`` has seen this shape before."""
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
        """Within, ``see[path]`` is given what enters the map at ``path`` of the layer."""

        def hook(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            return lambda _module, args: see[path](args[0])

        handles = [self.layers[layer].get_submodule(path).register_forward_pre_hook(hook(path)) for path in see]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class _Recorder(nn.Module):
    """Stands in for a decoder layer: notes what it is called with and hands the hidden states on."""

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
    """Stands in for the trunk where only the head is wanted: hands the states that it is given on."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Any:
        from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions

        return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=inputs_embeds)
