"""What a .gguf file says of its model and Transformers does not read: tensors without a place, stretched positions."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError
from come.models.gguf_file import Header, alone, header_of, without_vocabulary
from come.models.plausible import LAYERS, least_parameters, most_of, refuse_implausible
from come.models.source import of_our_choice
from come.models.strict import refuse_gaps

_FACTORS = "rope_freqs.weight"
_WIDE = {("gemma2", 46), ("gemma3_text", 62)}  # the 27B models scale attention by d / heads; a file does not say so
_TOKENS, _TEXTS = "tokenizer.ggml.tokens", 8  # as the format numbers kinds of items
_BESIDE_TOKENS = {"scores": {6, 12}, "token_type": {4, 5}}
# What sizes may be at most; those that every model has must be there.
_NEEDED = ("block_count", "embedding_length", "attention.head_count")
_SIZES = {
    "block_count": LAYERS,
    "embedding_length": most_of("hidden_size"),
    "attention.head_count": most_of("num_attention_heads"),
    "attention.head_count_kv": most_of("num_key_value_heads"),
    "attention.key_length": most_of("head_dim"),
    "attention.value_length": most_of("head_dim"),
    "rope.dimension_count": most_of("head_dim"),
    "feed_forward_length": most_of("intermediate_size"),
    "context_length": most_of("max_position_embeddings"),
    "vocab_size": most_of("vocab_size"),
    "expert_count": most_of("num_experts"),
    "attention.sliding_window": most_of("sliding_window"),
}
_AGAIN = "Fetch or copy the file again, whole."
_FOLDER_INSTEAD = "Take the model as a Transformers folder."


def read_gguf_config(gguf: Path) -> Any:
    """The Transformers config of a .gguf file, with Llama 3's stretched positions, which the file keeps as a tensor.

    Raises:
        ComeError: its positions are stretched in another way, or no model can be of that config.
    """
    from transformers.integrations.gguf import GGUF_CONFIG_ARCHS
    from transformers.modeling_gguf_pytorch_utils import GGUF_TO_TRANSFORMERS_MAPPING as MAPPING

    from come.models.auto import AutoConfig

    header = header_of(gguf)
    arch = _architecture(gguf, header)
    _refuse_implausible_entries(gguf, header, arch)
    # Those of these architectures Transformers reads in a way of its own, which goes past the words.
    with (alone if arch in GGUF_CONFIG_ARCHS else without_vocabulary)(gguf) as file:
        config = AutoConfig.from_pretrained(file.parent, gguf_file=file.name, trust_remote_code=False)
    said = "vocab_size" in MAPPING["config"].get(arch, ()) and f"{arch}.vocab_size" in header.values
    if arch not in GGUF_CONFIG_ARCHS and not said and _TOKENS in header.lengths:
        config.vocab_size = header.lengths[_TOKENS][0]
    config = of_our_choice(config)
    config.name_or_path = str(gguf.parent)
    refuse_implausible(config, gguf.name)
    if (least := least_parameters(config)) > header.elements:
        raise ComeError(
            f"{gguf.name} describes a model of {least:,} parameters or more, and holds {header.elements:,}.", _AGAIN
        )
    kind = header.values.get(f"{arch}.rope.scaling.type", "none")
    if kind != "none":
        raise ComeError(
            f"{gguf.name} stretches its positions ({kind}), which is not read from .gguf files.", _FOLDER_INSTEAD
        )
    if (config.model_type, config.num_hidden_layers) in _WIDE:
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
    if _FACTORS in header.tensors:
        config.rope_parameters = _stretched(gguf, dict(config.rope_parameters))
    return config


def _architecture(gguf: Path, header: Header) -> str:
    arch = header.values.get("general.architecture")
    if not isinstance(arch, str) or not re.fullmatch(r"[\w.-]{1,64}", arch):
        raise ComeError(f"{gguf.name} does not say of which architecture its model is.", _AGAIN)
    return arch


def _refuse_implausible_entries(gguf: Path, header: Header, arch: str) -> None:
    """Refuse sizes that no model has, and words that are none, before anything is made of them."""
    for name, most in _SIZES.items():
        sizes = header.values.get(f"{arch}.{name}", 0 if name in _NEEDED else None)
        for size in sizes if isinstance(sizes, list) else () if sizes is None else (sizes,):
            if type(size) is not int or not (name in _NEEDED) <= size <= most:
                raise ComeError(f"{gguf.name} says {name} {str(size)[:40]}, which no model has.", _AGAIN)
    words, kind = header.lengths.get(_TOKENS, (0, _TEXTS))
    said = header.values.get(f"{arch}.vocab_size", words)
    if kind != _TEXTS or not isinstance(said, int) or not words <= most_of("vocab_size"):
        raise ComeError(f"{gguf.name} has a vocabulary that is no list of words.", _AGAIN)
    for name, wanted in _BESIDE_TOKENS.items():
        length, kind = header.lengths.get(f"tokenizer.ggml.{name}", (words, next(iter(wanted))))
        if length != words or kind not in wanted:
            raise ComeError(f"{gguf.name} has {words:,} words, and {length:,} {name} of them.", _AGAIN)
    if header.lengths.get("tokenizer.ggml.merges", (0, _TEXTS))[1] != _TEXTS:
        raise ComeError(f"{gguf.name} has merges that are no words.", _AGAIN)
    for name, token in header.values.items():
        if name.startswith("tokenizer.") and name.endswith("_token_id") and not 0 <= token < words:
            raise ComeError(f"{gguf.name} says {name} {token}, and has {words:,} words.", _AGAIN)


def refuse_unread(gguf: Path, model: Any) -> None:
    """Compare the names and shapes of a file's tensors with those of the model that Transformers makes of it.

    Args:
        gguf: the file; its tensors are not read.
        model: that model, which may be without weights.

    Raises:
        ComeError: the file lacks some of the model's weights, or has others: Transformers would not say so. Or it has
            some of another shape.
    """
    from gguf.constants import MODEL_ARCH_NAMES
    from gguf.tensor_mapping import get_tensor_name_map

    header = header_of(gguf)
    name, tensors = _architecture(gguf, header), header.tensors
    arch = next((arch for arch, known in MODEL_ARCH_NAMES.items() if known == name), None)
    if arch is None:
        raise ComeError(f"{gguf.name} is of an architecture that is not known ({name}).", _FOLDER_INSTEAD)
    names = get_tensor_name_map(arch, model.config.num_hidden_layers)
    weights = model.state_dict()
    places = {names.get_name(name, try_suffixes=(".weight", ".bias")): name for name in weights}
    known = set(places)
    tied = {"output.weight"} if model.config.tie_word_embeddings else set()
    report = {
        "missing_keys": known - {None} - tied - set(tensors),
        "unexpected_keys": set(tensors) - known - {_FACTORS},
        "mismatched_keys": [
            (place, found, shape)
            for name, place in places.items()
            if name in tensors
            and (found := tensors[name].dimensions[::-1]) != (shape := _stored_shape(model, place, weights))
        ],
    }
    refuse_gaps(report, gguf.name)


def _stored_shape(model: Any, name: str, weights: dict[str, Tensor]) -> tuple[int, ...]:
    """The shape that a weight of a model has in a .gguf file, where all maps are stored (out, in)."""
    shape = tuple(weights[name].shape)
    module = model.get_submodule(name.rpartition(".")[0])
    return shape[::-1] if type(module).__name__ == "Conv1D" else shape


def _stretched(gguf: Path, rope: dict[str, Any]) -> dict[str, Any]:
    """The rotary parameters that give the factors in a file, which are those of Llama 3.

    Raises:
        ComeError: none do.
    """
    from gguf import GGUFReader

    (found,) = (each.data for each in GGUFReader(gguf).tensors if each.name == _FACTORS)
    factors = torch.from_numpy(found.copy()).double()
    plain = rope["rope_theta"] ** -(torch.arange(len(factors), dtype=torch.float64) / len(factors))
    low, high, largest = 1.0, 4.0, float(factors.max())
    between = (factors > 1.001) & (factors < 0.999 * largest)
    # Between the fast channels, which are left, and the slow ones, which are slowed in full, each tells the context.
    share = (1 / factors - 1 / largest) / (1 - 1 / largest)
    contexts = (share * (high - low) + low) * 2 * math.pi / plain
    context = round(float(contexts[between].median())) if bool(between.any()) else 8192
    if not torch.allclose(_factors_of_llama_3(plain, largest, low, high, context), factors, rtol=1e-4):
        raise ComeError(f"{gguf.name} stretches its positions in a way that is not Llama 3's.", _FOLDER_INSTEAD)
    return {
        **rope,
        "rope_type": "llama3",
        "factor": largest,
        "low_freq_factor": low,
        "high_freq_factor": high,
        "original_max_position_embeddings": context,
    }


def _factors_of_llama_3(plain: Tensor, factor: float, low: float, high: float, context: int) -> Tensor:
    """By what each frequency is divided, float64 (head_dim / 2)."""
    turns = context * plain / (2 * math.pi)  # of a channel within the context that the model was first trained on
    share = ((turns - low) / (high - low)).clamp(0, 1)
    return 1 / ((1 - share) / factor + share)
