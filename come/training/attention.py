"""Causal attention while training in bfloat16 on a CPU, as matrix products of blocks.

PyTorch's own (2.13) takes as long in bfloat16 as in float32 there, 29% of a training step of SmolLM2's layer. A block
of queries against the keys up to its end is plain products, which bfloat16 makes faster, and most of the half above
the diagonal is left out as well. What is kept for the way back is the probabilities.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.amp import custom_bwd, custom_fwd
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

BLOCK = 128  # queries at a time; 64 is about as fast, 32 and 256 are slower


def blockwise_attention(device: torch.device) -> AbstractContextManager[object]:
    """Within, in this thread, plain causal attention under autocast on a CPU is taken in blocks."""
    return _Blockwise() if device.type == "cpu" else nullcontext()


def causal_blocks(query: Tensor, key: Tensor, value: Tensor, scale: float | None = None) -> Tensor:
    """softmax(query keyᵀ · scale) value on and below the diagonal, all (sequences, heads, tokens, channels).

    Under autocast it is computed in bfloat16, the sums over blocks in float32.

    Args:
        query: of num_attention_heads.
        key, value: of as many heads, or of fewer that groups of the query's share.
        scale: None is one over the root of the channels.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return _CausalBlocks.apply(query, key, value, scale)  # type: ignore[no-untyped-call,no-any-return]


class _Blockwise(TorchFunctionMode):
    """Puts another attention in the place of PyTorch's."""

    def __torch_function__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return (_attention if function is scaled_dot_product_attention else function)(*args, **kwargs or {})


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Blocks where they are faster and attention is causal and nothing else; elsewhere PyTorch's."""
    quicker = query.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    square = query.ndim == 4 and query.shape[-2] == key.shape[-2]
    if quicker and square and is_causal and attn_mask is None and not dropout_p:
        return causal_blocks(query, key, value, scale)
    return scaled_dot_product_attention(
        query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
    )


class _CausalBlocks(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        kept = []
        for rows, seen, later in _blocks(query.shape[-2]):
            scores = (query[..., rows, :] * scale) @ key[..., seen, :].transpose(-1, -2)
            scores[..., rows].masked_fill_(later, -torch.inf)
            probabilities = scores.softmax(-1)
            output[..., rows, :] = probabilities @ value[..., seen, :]
            kept.append(probabilities)
        ctx.save_for_backward(query, key, value, output, *kept)
        ctx.scale = scale
        return output

    @staticmethod
    @custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        query, key, value, output, *kept = ctx.saved_tensors
        of_query = torch.empty_like(query)
        of_key, of_value = (torch.zeros_like(each, dtype=torch.float32) for each in (key, value))
        # What a softmax's gradient takes off each row: the probabilities' mean of theirs.
        mean = (gradient.float() * output.float()).sum(-1, keepdim=True).to(query.dtype)
        for (rows, seen, _), probabilities in zip(_blocks(query.shape[-2]), kept, strict=True):
            here = gradient[..., rows, :]
            of_value[..., seen, :] += probabilities.transpose(-1, -2) @ here
            of_scores = here @ value[..., seen, :].transpose(-1, -2)
            of_scores.sub_(mean[..., rows, :]).mul_(probabilities).mul_(ctx.scale)
            of_query[..., rows, :] = of_scores @ key[..., seen, :]
            of_key[..., seen, :] += of_scores.transpose(-1, -2) @ query[..., rows, :]
        return of_query, of_key.to(key.dtype), of_value.to(value.dtype), None


def _blocks(tokens: int) -> list[tuple[slice, slice, Tensor]]:
    """The rows of each block, the keys that it sees, and which of its own come later than each of its rows."""
    later = torch.ones(BLOCK, BLOCK, dtype=torch.bool).triu(1)
    ends = [(start, min(start + BLOCK, tokens)) for start in range(0, tokens, BLOCK)]
    return [(slice(start, end), slice(0, end), later[: end - start, : end - start]) for start, end in ends]
