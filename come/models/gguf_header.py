"""What a .gguf file says of its model and Transformers does not read: tensors without a place, stretched positions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError
from come.models.plausible import refuse_implausible
from come.models.source import of_our_choice
from come.models.strict import refuse_gaps

_FACTORS = "rope_freqs.weight"
_WIDE = {("gemma2", 46), ("gemma3_text", 62)}  # the 27B models scale attention by d / heads; a file does not say so
_FOLDER_INSTEAD = "Take the model as a Transformers folder."


def read_gguf_config(gguf: Path) -> Any:
    """The Transformers config of a .gguf file, with Llama 3's stretched positions, which the file keeps as a tensor.

    Raises:
        ComeError: its positions are stretched in another way, or no model can be of that config.
    """
    from transformers.integrations.gguf.reader import read_gguf_metadata

    from come.models.auto import AutoConfig

    config = of_our_choice(AutoConfig.from_pretrained(gguf.parent, gguf_file=gguf.name, trust_remote_code=False))
    refuse_implausible(config, gguf.name)
    values, tensors = read_gguf_metadata(str(gguf))
    kind = values.get(f"{values['general.architecture']}.rope.scaling.type", "none")
    if kind != "none":
        raise ComeError(
            f"{gguf.name} stretches its positions ({kind}), which is not read from .gguf files.", _FOLDER_INSTEAD
        )
    if (config.model_type, config.num_hidden_layers) in _WIDE:
        config.query_pre_attn_scalar = config.hidden_size // config.num_attention_heads
    if _FACTORS in tensors:
        config.rope_parameters = _stretched(gguf, dict(config.rope_parameters))
    return config


def refuse_unread(gguf: Path, model: Any) -> None:
    """Compare the names of a file's tensors with those of the model that Transformers makes of it.

    Args:
        gguf: the file; its tensors are not read.
        model: that model, which may be without weights.

    Raises:
        ComeError: the file lacks some of the model's weights, or has others: Transformers would not say so.
    """
    from gguf.constants import MODEL_ARCH_NAMES
    from gguf.tensor_mapping import get_tensor_name_map
    from transformers.integrations.gguf.reader import read_gguf_metadata

    values, tensors = read_gguf_metadata(str(gguf))
    (arch,) = (arch for arch, name in MODEL_ARCH_NAMES.items() if name == values["general.architecture"])
    names = get_tensor_name_map(arch, model.config.num_hidden_layers)
    known = {names.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()}
    tied = {"output.weight"} if model.config.tie_word_embeddings else set()
    report = {
        "missing_keys": known - {None} - tied - set(tensors),
        "unexpected_keys": set(tensors) - known - {_FACTORS},
        "mismatched_keys": (),
    }
    refuse_gaps(report, gguf.name)


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
