"""A model's shape, by whatever names its config spells it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Shape:
    """How many of what a model has; 0 where a config does not say.

    Attributes:
        layers: decoder layers.
        hidden_size: channels of a hidden state.
        heads: query heads of a layer.
        kv_heads: key/value heads of a layer, which is KV groups.
        head_dim: channels of a head.
        channels: FFN channels of a layer.
    """

    layers: int
    hidden_size: int
    heads: int
    kv_heads: int
    head_dim: int
    channels: int


def shape_of(config: Any) -> Shape:
    """The shape that a Transformers config describes; of a multimodal one, that of its text part."""
    config = getattr(config, "text_config", None) or config

    def first(*names: str) -> int:
        return next((int(value) for name in names if (value := getattr(config, name, None))), 0)

    hidden, heads = first("hidden_size"), first("num_attention_heads")
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        kv_heads = 1  # Falcon-7B, whatever its num_kv_heads
    elif getattr(config, "new_decoder_architecture", False):
        kv_heads = first("num_kv_heads")
    else:
        kv_heads = first("num_key_value_heads") or heads
    inner = 4 * hidden if hasattr(config, "n_inner") else 0  # GPT-2's None means this
    return Shape(
        layers=first("num_hidden_layers"),
        hidden_size=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=first("head_dim") or (hidden // heads if heads else 0),
        channels=first("intermediate_size", "ffn_dim", "ffn_hidden_size", "n_inner") or inner,
    )
