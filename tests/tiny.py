"""Tiny random models of each family, for exactness where a real model would only be slow."""

from __future__ import annotations

import copy
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from come.models import FAMILIES, Bundle

VOCAB = 128
_SHAPE = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "num_attention_heads": 8,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {"intermediate_size": 48, "num_key_value_heads": 4}
_GEMMA = {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 6, "final_logit_softcapping": 2.0}
# What each family spells in its own way, or adds; "family:variant" where a family has variants of its own.
_OWN: dict[str, dict[str, Any]] = {
    "llama": _GROUPED,
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {**_GROUPED, "head_dim": 16},
    "gemma2": {**_GEMMA, "attn_logit_softcapping": 3.0},
    "gemma3_text": _GEMMA,
    "phi3": _GROUPED,
    "smollm3": _GROUPED,
    "granite": {
        **_GROUPED,
        "embedding_multiplier": 3.0,
        "residual_multiplier": 0.5,
        "attention_multiplier": 0.3,
        "logits_scaling": 0.25,
        "attention_bias": True,
        "mlp_bias": True,
    },
    "olmo2": _GROUPED,
    "glm4": {**_GROUPED, "head_dim": 8},
    "cohere": {**_GROUPED, "attention_bias": True, "logit_scale": 4.0},
    "cohere:qk-norm": {**_GROUPED, "use_qk_norm": True, "tie_word_embeddings": False},
    "gpt_neox": {"intermediate_size": 48, "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}},
    "gpt_neox:sequential": {
        "intermediate_size": 48,
        "rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5},
        "use_parallel_residual": False,
    },
    "gpt2": {"n_inner": 48},
    "falcon": {"ffn_hidden_size": 48, "new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    "falcon:one-norm": {
        "ffn_hidden_size": 48,
        "new_decoder_architecture": True,
        "num_kv_heads": 4,
        "num_ln_in_parallel_attn": 1,
    },
    "falcon:multi-query": {"ffn_hidden_size": 48},
    "falcon:by-head": {"ffn_hidden_size": 48, "multi_query": False, "parallel_attn": False, "bias": True},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "bos_token_id": 1},
}
CASES = tuple(_OWN)
"""Every family, and the variants whose layers are built in another way."""


def tiny_model(family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Any:
    """A random model of a family, in evaluation mode; biases and norms are random too, so that mistakes show."""
    torch.manual_seed(seed)
    model_type = family.partition(":")[0]
    settings = {**_SHAPE, **_OWN[family], **_layer_kinds(model_type, layers), **changes}
    config = AutoConfig.for_model(model_type, num_hidden_layers=layers, **settings)
    model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            is_norm = ("norm" in name or "ln_" in name) and name.endswith("weight")
            parameter.copy_((1.0 if is_norm and not model_type.startswith("gemma") else 0.0) + 0.15 * noise)
    return model


def _layer_kinds(model_type: str, layers: int) -> dict[str, Any]:
    """Both kinds of layers where a family has two; those that do not mix lie in two runs."""
    lower = layers // 2
    if model_type == "gemma2":
        return {"layer_types": [("sliding_attention", "full_attention")[layer % 2] for layer in range(layers)]}
    if model_type == "gemma3_text":
        return {"layer_types": ["sliding_attention"] * lower + ["full_attention"] * (layers - lower)}
    if model_type == "smollm3":
        return {"no_rope_layers": [1] * lower + [0] * (layers - lower)}
    return {}


@lru_cache(maxsize=1)
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """One token a character, of the printable ASCII ones."""
    vocabulary = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}
    for code in [10, *range(32, 127)]:
        vocabulary[chr(code)] = len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_tokenizer_with(start: str = "<s>") -> PreTrainedTokenizerFast:
    """The same tokenizer, which puts special tokens before a text by itself, as Gemma's and Llama's do."""
    tokenizer: PreTrainedTokenizerFast = copy.deepcopy(tiny_tokenizer())
    backend = tokenizer.backend_tokenizer
    ids = [(token, tokenizer.convert_tokens_to_ids(token)) for token in start.split()]
    backend.post_processor = processors.TemplateProcessing(single=f"{start} $A", special_tokens=ids)
    return tokenizer


def tiny_bundle(family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Bundle:
    """A random model of a family as a bundle."""
    model = tiny_model(family, layers, seed, **changes)
    return Bundle(model, tiny_tokenizer(), FAMILIES[model.config.model_type], f"tiny-{family}")


def tiny_folder(parent: Path, family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Path:
    """A random model with its tokenizer, saved as a folder below ``parent``."""
    folder = parent / f"tiny-{family.replace(':', '-')}"
    shutil.rmtree(folder, ignore_errors=True)
    tiny_model(family, layers, seed, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_tokens(sequences: int = 6, seq_len: int = 16, seed: int = 0) -> Tensor:
    """Random tokens, (sequences, tokens)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, 99, (sequences, seq_len), generator=generator)
