"""Gradients through a model, a layer at a time: of the head, of layers in float32, of masks of units.

A mask multiplies what enters the output map of the attention or of the FFN; all masks are one. The gradient goes
through one layer at a time, from states that were kept on the way up, so that the memory of a backward pass is that of
one layer. Weights get no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import sequence_losses, states_at
from come.models import Bundle
from come.models.depth import share
from come.models.offload import bring_in, weight_of


def gradient_of_the_head(runner: LayerRunner, hidden_states: Tensor, tokens: Tensor) -> Tensor:
    """The gradient of the sequences' losses, added up, by what leaves the last layer, float32 on the CPU."""
    gradients = []
    for states, row in zip(hidden_states, tokens, strict=True):  # logits are the memory peak: one sequence at a time
        with torch.enable_grad():
            given = states[None].detach().requires_grad_()
            loss = sequence_losses(runner, runner.norm(given), row[None]).sum()
        gradients.append(torch.autograd.grad(loss, given)[0].float().cpu())
    return torch.cat(gradients)


def in_float32(layer: nn.Module) -> nn.Module:
    """A copy of a layer over float32 weights, the same memory where they are float32 already; none takes a gradient."""
    copy = share(layer)
    bring_in(copy, filled=False)
    for path, module in layer.named_modules():
        for name in module._parameters:
            if (weight := weight_of(module, name)) is not None:
                setattr(copy.get_submodule(path), name, nn.Parameter(weight.detach().float(), requires_grad=False))
    return copy  # type: ignore[no-any-return]


@torch.no_grad()
def mask_gradients(
    bundle: Bundle,
    tokens: Tensor,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
    share: float = 1.0,
    *,
    lowest: int = 0,
    borders: HiddenStateCache | None = None,
) -> tuple[Tensor, Tensor]:
    """The gradient of each sequence's mean loss, float32 on the CPU.

    Args:
        bundle: the model; it is left as it was.
        tokens: int64 (sequences, tokens).
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer.
        share: how much of the whole work this is.
        lowest: the lowest layer whose gradients are wanted; those of the layers below are left zero.
        borders: hidden states of the model on these tokens, in these batches; what is missing is run.

    Returns:
        for KV groups, (sequences, layers, kv_heads), and for FFN channels, (sequences, layers, channels).

    Raises:
        ComeError: hidden states or gradients are not finite.
    """
    runner = LayerRunner(bundle)
    layers, shape = len(runner), bundle.shape
    kv_groups = torch.zeros(len(tokens), layers, shape.kv_heads)
    channels = torch.zeros(len(tokens), layers, shape.channels)
    todo = list(batches(tokens, batch_size))
    seen = 0
    for batch in todo:
        # What another pass kept was made without gradients for good: autograd takes a copy of it.
        hidden_states = states_at(runner, batch.index, batch.tokens, lowest, borders).clone()
        entering = []
        for layer in range(lowest, layers):
            entering.append(hidden_states)
            hidden_states = runner.run(layer, hidden_states)
        gradient = gradient_of_the_head(runner, hidden_states, batch.tokens)
        check_finite(gradient, runner)
        here = slice(seen, seen + len(batch.tokens))
        for layer in reversed(range(lowest, layers)):
            gradient, kv_groups[here, layer], channels[here, layer] = _through_a_layer(
                runner, layer, entering.pop(), gradient, shape.kv_heads, shape.channels
            )
            done = batch.index + (layers - layer) / (layers - lowest)
            emit(on_progress, "compress", round(1000 * share * done / len(todo)), 1000, "Gradients")
        for found in (kv_groups, channels):
            check_finite(found, runner)
        seen += len(batch.tokens)
    return kv_groups, channels


def _through_a_layer(
    runner: LayerRunner, layer: int, entering: Tensor, gradient: Tensor, kv_heads: int, channels: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient with respect to what enters a layer, and to its masks, (sequences, units)."""
    sequences, device = len(entering), entering.device
    kv_mask = torch.ones(sequences, kv_heads, device=device, requires_grad=True)
    channel_mask = torch.ones(sequences, channels, device=device, requires_grad=True)
    family = runner.family
    masks = {family.attention_output: kv_mask, family.ffn_output: channel_mask}
    module = in_float32(runner.layers[layer])
    with torch.enable_grad(), _masked(module, masks):
        given = entering.detach().float().requires_grad_()
        leaving = runner.run(layer, given, module)
        below, *found = torch.autograd.grad(leaving, [given, kv_mask, channel_mask], gradient.to(leaving.device))
    return below.cpu(), found[0].cpu(), found[1].cpu()


@contextmanager
def _masked(layer: nn.Module, masks: dict[str, Tensor]) -> Iterator[None]:
    """Within, what enters the map at each path is multiplied by a mask, (sequences, units)."""

    def hook(mask: Tensor) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        def multiply(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            inputs, (sequences, units) = args[0], mask.shape
            by_unit = inputs.reshape(
                sequences, -1, units, inputs.shape[-1] // units
            )  # OPT's FFN sees one row of tokens
            return (by_unit * mask[:, None, :, None]).reshape(inputs.shape), *args[1:]

        return multiply

    handles = [layer.get_submodule(path).register_forward_pre_hook(hook(mask)) for path, mask in masks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
