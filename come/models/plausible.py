"""Configs that no model can be of: refused in a sentence, before Transformers fails on them in words of its own."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from come.errors import ComeError
from come.numbers import LARGEST_WHOLE

RIGHT = "Put its config.json right, or fetch or copy the model again."
_COUNTS = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")
_ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function")

LAYERS = 512  # the deepest language models have some 130
# What a whole number may be, by its name; the first that fits. Several times what the largest of known models have.
MOST: tuple[tuple[re.Pattern[str], int], ...] = tuple(
    (re.compile(name), most)
    for name, most in (
        (r"vocab", 1 << 22),
        (r"max_window_layers", LARGEST_WHOLE),
        (r"max_position|n_positions|n_ctx|context|seq|window|length", 1 << 31),
        (r"layer|(n|num)_blocks?$|block_count|depth", LAYERS),
        (r"intermediate|ffn|inner|d_ff|mlp", 1 << 20),
        (r"head_dim|hidden|n_embd|d_model|d_kv|embed|channel|rank", 1 << 17),
        (r"^(num|n)_(?!.*(token|param|step|sample|image))|heads?$|groups?$|experts?", 1 << 16),
    )
)
_LONGEST = 1 << 16  # characters of a text in a config
PARAMETERS = 1 << 43  # nearly nine trillion


def refuse_implausible_values(told: Mapping[str, Any], name: str) -> None:
    """Refuse what a config's file says, before a config is made of it: Transformers makes lists as long as its counts.

    Args:
        told: the document in the file.
        name: what the model is called in the sentence.

    Raises:
        ComeError: a number is not finite or larger than any model's, a size is no whole number, or a text, a list or
            an object stands where Transformers takes something else.
    """
    for key, kind in _KINDS.items():
        if (value := told.get(key)) is not None and not isinstance(value, kind):
            raise ComeError(f"The config of {name} says {key} {_shown(value)}.", RIGHT)
    if any(not isinstance(each, str) for each in told.get("architectures") or ()):
        raise ComeError(f"The config of {name} names architectures that are no names.", RIGHT)
    for key, value in values_of(told):
        if isinstance(value, float) and not math.isfinite(value):
            raise ComeError(f"The config of {name} says {key} {value}, which is no finite number.", RIGHT)
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > most_of(key):
            raise ComeError(f"The config of {name} says {key} {_shown(value)}, which no model has.", RIGHT)
        if isinstance(value, str) and len(value) > _LONGEST:
            raise ComeError(f"The config of {name} has {len(value):,} characters in {key}.", RIGHT)
    for part in (told, *(each for each in told.values() if isinstance(each, Mapping))):
        for key in _SIZES & part.keys():
            if (value := part[key]) is not None and type(value) not in (int, list):
                raise ComeError(f"The config of {name} says {key} {_shown(value)}, which is no whole number.", RIGHT)


_KINDS: dict[str, type | tuple[type, ...]] = {
    "model_type": str,
    "architectures": list,
    **dict.fromkeys(("text_config", "vision_config", "audio_config", "llm_config"), dict),
    **dict.fromkeys(("id2label", "label2id", "auto_map", "task_specific_params"), dict),
    **dict.fromkeys(("rope_scaling", "rope_parameters"), dict),
    **dict.fromkeys(("layer_types", "no_rope_layers"), list),
}
_SIZES = {
    *("num_hidden_layers", "hidden_size", "num_attention_heads", "num_key_value_heads", "vocab_size", "head_dim"),
    *("intermediate_size", "max_position_embeddings", "n_layer", "n_head", "n_embd", "n_positions", "n_inner"),
    *("ffn_dim", "num_kv_heads", "ffn_hidden_size", "word_embed_proj_dim", "sliding_window", "num_labels"),
}


def most_of(key: str) -> int:
    """The largest whole number that an entry of a config may be."""
    return next((most for pattern, most in MOST if pattern.search(key)), LARGEST_WHOLE)


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
        if count is not None and (type(count) is not int or not 1 <= count <= most_of(key)):
            raise ComeError(f"The config of {name} says {key} {_shown(count)}.", RIGHT)
    for key in sorted(_SIZES):
        size = getattr(config, key, None)
        if isinstance(size, int) and (size < 0 or (size == 0 and key in _NEVER_NONE)):
            raise ComeError(f"The config of {name} says {key} {_shown(size)}.", RIGHT)
    for key, value in values_of(config.to_dict()):
        if isinstance(value, float) and not math.isfinite(value):
            raise ComeError(f"The config of {name} says {key} {value}, which is no finite number.", RIGHT)
    for key in _ACTIVATIONS:
        told = getattr(config, key, None)
        if isinstance(told, str) and told not in ACT2FN:
            raise ComeError(
                f"The config of {name} names an activation that Transformers has not ({_shown(told)}).", RIGHT
            )
    for kind in _kinds_of_positions(getattr(config, "rope_parameters", None)):
        if kind != "default" and (not isinstance(kind, str) or kind not in ROPE_INIT_FUNCTIONS):
            raise ComeError(
                f"The config of {name} names rotary positions that Transformers has not ({_shown(kind)}).", RIGHT
            )
    tokens, padding = getattr(config, "vocab_size", None), getattr(config, "pad_token_id", None)
    if isinstance(tokens, int) and isinstance(padding, int) and not -tokens <= padding < tokens:
        raise ComeError(
            f"The config of {name} says pad_token_id {padding}, and it has embeddings for {tokens:,} tokens.",
            "Set pad_token_id in its config.json to one of them, or to null.",
        )
    if (least := least_parameters(config)) > PARAMETERS:
        raise ComeError(f"The config of {name} describes a model of {least / 1e12:,.0f} trillion parameters.", RIGHT)


_NEVER_NONE = {"num_key_value_heads", "head_dim", "intermediate_size", "ffn_dim", "max_position_embeddings"}


def least_parameters(config: Any) -> int:
    """How many parameters a model has at least that is of such a config: embeddings, and two maps a layer."""

    def size(*names: str) -> int:
        return next((value for name in names if type(value := getattr(config, name, None)) is int and value > 0), 1)

    hidden, channels = size("hidden_size"), size("ffn_hidden_size", "ffn_dim", "n_inner", "intermediate_size")
    return size("vocab_size") * hidden + size("num_hidden_layers") * 2 * hidden * channels


def values_of(told: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The numbers and texts of a config with their names, those of its lists and parts too."""
    left: list[tuple[str, Any]] = list(told.items())
    while left:
        key, value = left.pop()
        if isinstance(value, Mapping):
            left += ((str(name), each) for name, each in value.items())
        elif isinstance(value, list | tuple):
            left += ((key, each) for each in value)
        else:
            yield key, value


def _kinds_of_positions(told: Any) -> Iterator[Any]:
    """What the rotary positions of a config are called: of all layers, or of each kind of them."""
    if not isinstance(told, Mapping):
        return
    if "rope_type" in told:
        yield told["rope_type"]
    for part in told.values():
        yield from _kinds_of_positions(part)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
