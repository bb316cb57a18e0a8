"""The text part of a multimodal model, taken out as the plain language model that its layers are of."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

# The wrapper's model type -> the text part's -> that of the plain model which computes the same from text alone.
TOWERS: dict[str, dict[str, str]] = {
    "gemma3": {"gemma3_text": "gemma3_text"},
    "mistral3": {"mistral": "mistral"},
    "qwen2_5_vl": {"qwen2_5_vl_text": "qwen2"},
    "qwen3_vl": {"qwen3_vl_text": "qwen3"},
}
# Where wrappers keep the weights of their text part, in old files and new -> where a plain model has them.
NAMES = {
    r"^(?:model\.)?language_model\.model\.": "model.",
    r"^(?:model\.)?language_model\.lm_head\.": "lm_head.",
    r"^model\.language_model\.": "model.",
}
_OTHER_PARTS = re.compile(r"(model\.)?(vision_tower|vision_model|visual|multi_modal_projector)\.")
# With text alone the three positions that pictures and films need are one, and sections of the rotary table are none.
_SECTIONS = ("mrope_section", "mrope_interleaved", "type")  # the last is what rope_type was called
_SAID_ANEW = ("model_type", "transformers_version", "architectures")
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")


def text_part(config: Any) -> Any:
    """The config of the plain language model that a multimodal model's text part is; any other config as it is.

    Args:
        config: a Transformers config.
    """
    text: Any = getattr(config, "text_config", None)
    plain = TOWERS.get(str(config.model_type), {}).get(str(getattr(text, "model_type", "")))
    if plain is None:
        return config
    made: Any = copy.deepcopy(text) if plain == text.model_type else _as_plain(text, plain)
    made.tie_word_embeddings = config.tie_word_embeddings  # which is what the wrapper's head goes by
    made.dtype = made.dtype or config.dtype
    made._commit_hash = getattr(config, "_commit_hash", None)
    for name in _TOKENS:
        if getattr(made, name, None) is None:
            setattr(made, name, getattr(config, name, None))
    if getattr(config, "quantization_config", None):
        made.quantization_config = config.quantization_config
    return made


def wrapper_at(where: str | Path) -> str:
    """The type of the multimodal model that lies at a place; "" where there is another one.

    Args:
        where: a folder, or a hub id.
    """
    from come.models.auto import PreTrainedConfig

    told, _ = PreTrainedConfig.get_config_dict(where)
    kind = str(told.get("model_type"))
    return kind if kind in TOWERS else ""


def note(wrapper: str, config: Any) -> str:
    """What people are told of a text part that was taken out.

    Args:
        wrapper: the type of the multimodal model.
        config: the plain model's.
    """
    return (
        f"This is a multimodal model ({wrapper}). Its text part alone is taken, and saved as a text model "
        f"({config.model_type}), which takes no pictures."
    )


def plain_name(weight: str) -> str:
    """What a weight of a file is called in a plain language model; another one's is called what it is."""
    for pattern, there in NAMES.items():
        weight = re.sub(pattern, there, weight)
    return weight


def is_of_another_part(weight: str) -> bool:
    """Whether a weight of a multimodal model, by its name in the files, belongs to what its text part goes without."""
    return _OTHER_PARTS.match(weight) is not None


def _as_plain(text: Any, model_type: str) -> Any:
    from come.models.auto import AutoConfig

    told = {name: value for name, value in text.to_dict().items() if name not in _SAID_ANEW}
    rope = {name: value for name, value in told["rope_parameters"].items() if name not in _SECTIONS}
    return AutoConfig.for_model(model_type, **{**told, "rope_parameters": rope})
