"""Which next words one FFN channel speaks for, and against, when what it adds is read as the model's last word."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from come.measurement.top_contexts import check_channel
from come.models import Bundle


@dataclass(frozen=True)
class NextWords:
    """Tokens by how a positive activation of a channel moves their logits; a negative one moves them the other way.

    Attributes:
        promoted: those that it raises most, first the one raised most.
        suppressed: those that it lowers most, first the one lowered most.
    """

    promoted: tuple[str, ...]
    suppressed: tuple[str, ...]


@torch.inference_mode()
def next_words(bundle: Bundle, layer: int, channel: int, count: int = 8) -> NextWords:
    """What a channel's column of the FFN's output map comes to through the final norm and the unembedding.

    The layers between are left out, so this is what the channel says directly, not all that comes of it.

    Args:
        bundle: the model; it is left as it was.
        layer, channel: which FFN channel.
        count: how many tokens of either kind at most.

    Raises:
        ComeError: the model has no such layer or channel.
    """
    check_channel(bundle, layer, channel)
    family, own = bundle.family, bundle.layers[layer]
    column = family.matrix(own, family.ffn_output)[:, channel].float() * family.multiplier(own)
    if family.ffn_post_norm is not None:
        column = _through(own.get_submodule(family.ffn_post_norm), column, bundle.dtype)
    normed = _through(bundle.model.get_submodule(family.final_norm), column, bundle.dtype)
    moved = _through(bundle.model.get_submodule(family.head), normed, bundle.dtype)
    moved = moved[: len(bundle.tokenizer)]  # some heads have rows that no token uses
    most = min(count, len(moved) // 2)
    return NextWords(
        tuple(str(bundle.tokenizer.decode([token])) for token in moved.topk(most).indices.tolist()),
        tuple(str(bundle.tokenizer.decode([token])) for token in (-moved).topk(most).indices.tolist()),
    )


def _through(module: nn.Module, direction: Tensor, dtype: torch.dtype) -> Tensor:
    """What a direction alone comes to: a bias, which is there without it, is taken off; float32 on the CPU."""
    weight = next(module.parameters(), None)
    device = direction.device if weight is None or weight.device.type == "meta" else weight.device
    both = torch.stack([direction, torch.zeros_like(direction)]).to(device, dtype)
    moved: Tensor = module(both).float().cpu()
    return moved[0] - moved[1]
