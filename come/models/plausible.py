"""Configs that no model can be of: refused in a sentence, before Transformers fails on them in words of its own."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from come.errors import ComeError

RIGHT = "Put its config.json right, or fetch or copy the model again."
_COUNTS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")


def refuse_implausible(config: Any, name: str) -> None:
    """Refuse a language model's config by what it says of sizes, functions, positions and padding.

    Args:
        config: the Transformers config.
        name: what the model is called in the sentence.

    Raises:
        ComeError: a count is less than one, a number is not finite, Transformers has no such activation or kind of
            rotary positions, or the padding token has no embedding.
    """
    from transformers.activations import ACT2FN
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    for key in _COUNTS:
        count = getattr(config, key, None)
        if count is not None and (not isinstance(count, int) or count < 1):
            raise ComeError(f"The config of {name} says {key} {count!r}.", RIGHT)
    for key, value in _numbers(config.to_dict()):
        if not math.isfinite(value):
            raise ComeError(f"The config of {name} says {key} {value}, which is no finite number.", RIGHT)
    for key in _ACTIVATIONS:
        told = getattr(config, key, None)
        if isinstance(told, str) and told not in ACT2FN:
            raise ComeError(f"The config of {name} names an activation that Transformers has not ({told!r}).", RIGHT)
    for kind in _kinds_of_positions(getattr(config, "rope_parameters", None)):
        if kind != "default" and kind not in ROPE_INIT_FUNCTIONS:
            raise ComeError(
                f"The config of {name} names rotary positions that Transformers has not ({str(kind)[:80]!r}).", RIGHT
            )
    tokens, padding = getattr(config, "vocab_size", None), getattr(config, "pad_token_id", None)
    if isinstance(tokens, int) and isinstance(padding, int) and not -tokens <= padding < tokens:
        raise ComeError(
            f"The config of {name} says pad_token_id {padding}, and it has embeddings for {tokens:,} tokens.",
            "Set pad_token_id in its config.json to one of them, or to null.",
        )


def _numbers(told: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The floats of a config with their names, those of its parts too."""
    for key, value in told.items():
        if isinstance(value, float):
            yield key, value
        elif isinstance(value, Mapping):
            yield from _numbers(value)


def _kinds_of_positions(told: Any) -> Iterator[Any]:
    """What the rotary positions of a config are called: of all layers, or of each kind of them."""
    if not isinstance(told, Mapping):
        return
    if "rope_type" in told:
        yield told["rope_type"]
    for part in told.values():
        yield from _kinds_of_positions(part)
