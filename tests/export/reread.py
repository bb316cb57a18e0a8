"""GGUF files read again, for the tests of writing them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from tests.ggufs import READABLE, ROWS
from tests.tiny import tiny_tokens

FAMILIES_WITH_TOKENIZER = [*READABLE, ("llama", "llama")]
NAMED = gguf.GGMLQuantizationType


def reread(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return model(tiny_tokens() if tokens is None else tokens).logits


def values(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def with_own_head(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    head = 0.2 * torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(1))
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    return folder
