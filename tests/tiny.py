"""Tiny random models of each family, for exactness where a real model would only be slow."""

from __future__ import annotations

import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
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
# What each family spells in its own way, or adds.
_OWN: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 48, "num_key_value_heads": 4},
    "mistral": {"intermediate_size": 48, "num_key_value_heads": 2, "sliding_window": None},
    "qwen2": {"intermediate_size": 48, "num_key_value_heads": 2, "tie_word_embeddings": True},
    "qwen3": {"intermediate_size": 48, "num_key_value_heads": 4, "head_dim": 16},
    "opt": {"ffn_dim": 48, "word_embed_proj_dim": 32, "bos_token_id": 1},
}


def tiny_model(family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Any:
    """A random model of a family, in evaluation mode; biases and norms are random too, so that mistakes show."""
    torch.manual_seed(seed)
    config = AutoConfig.for_model(family, num_hidden_layers=layers, **{**_SHAPE, **_OWN[family], **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
            parameter.copy_(centre + 0.15 * noise)
    return model


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


def tiny_bundle(family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Bundle:
    """A random model of a family as a bundle."""
    model = tiny_model(family, layers, seed, **changes)
    return Bundle(model, tiny_tokenizer(), FAMILIES[family], f"tiny-{family}")


def tiny_folder(parent: Path, family: str = "llama", layers: int = 6, seed: int = 0, **changes: Any) -> Path:
    """A random model with its tokenizer, saved as a folder below ``parent``."""
    folder = parent / f"tiny-{family}"
    shutil.rmtree(folder, ignore_errors=True)
    tiny_model(family, layers, seed, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tiny_tokens(sequences: int = 6, seq_len: int = 16, seed: int = 0) -> Tensor:
    """Random tokens, (sequences, tokens)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(4, 99, (sequences, seq_len), generator=generator)
