"""What `scripts/old_readers.py` tries: every family, every way to count positions, and folders as people bring them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from come.export.gguf_write import write_gguf
from tests.ggufs import ROWS, TEMPLATE
from tests.tiny import CASES as TINY


@dataclass(frozen=True)
class Case:
    """A model to save: what is special about it, its family and tokenizer, and what is done to its folder at first."""

    title: str
    family: str
    tokenizer: str = ""
    changes: dict[str, Any] = field(default_factory=dict)
    prepare: Callable[[Path], Path | str | None] | None = None  # answers what to load instead

    @property
    def name(self) -> str:
        """A name for its folder."""
        return re.sub(r"\W", "-", f"{self.family} {self.title}")


def cases() -> list[Case]:
    """All but the bundled model."""
    return [
        *(Case(family.partition(":")[2] or "as it is", family) for family in TINY),
        *(Case(title, family, changes={"rope_parameters": told} | _LONG) for title, (family, told) in _ROPE.items()),
        Case(
            "LongRoPE", "phi3", changes={"rope_parameters": _LONG_ROPE, "original_max_position_embeddings": 64, **_LONG}
        ),
        Case("sliding windows in upper layers", "qwen2", changes=_UPPER_WINDOWS),
        *(Case(f"{kind} tokenizer", "llama", kind) for kind in ("llama", "llama-bpe", "smollm", "tekken")),
        *(
            Case("embeddings tied" if tied else "embeddings not tied", family, changes={"tie_word_embeddings": tied})
            for family in ("llama", "qwen2", "gpt2", "falcon:multi-query", "gemma3_text")
            for tied in (True, False)
        ),
        *(
            Case("a head of its own, said to be tied", family, changes={"tie_word_embeddings": True}, prepare=_own_head)
            for family in ("llama", "qwen2", "gpt2", "gemma2", "phi3", "cohere")
        ),
        *(Case("shards", family, prepare=_shards) for family in ("llama", "gpt_neox")),
        *(
            Case("an index of other shards beside the file", family, prepare=_stale_index)
            for family in ("llama", "qwen2")
        ),
        Case("names without the trunk's", "gpt2", prepare=_short_names),
        *(Case(f"weights in {dtype}", "llama", prepare=partial(_in_dtype, dtype=dtype)) for dtype in _HALVES),
        *(Case("an adapter beside the model", family, prepare=_adapter) for family in ("llama", "qwen2")),
        *(Case("an adapter of a model at hand", family, prepare=_adapter_alone) for family in ("llama", "qwen3")),
        *(Case("several chat templates", family, prepare=_templates) for family in ("llama", "qwen3")),
        *(Case("a GGUF file", family, prepare=_as_gguf) for family in ("llama", "qwen2", "gpt2")),
    ]


def _own_head(folder: Path) -> None:
    """A head apart from the embeddings in the file alone; the config says that they are one."""
    weights = load_file(folder / "model.safetensors")
    embeddings = next(weight for weight in weights.values() if weight.ndim == 2 and len(weight) == ROWS)
    torch.manual_seed(1)
    save_file(weights | {"lm_head.weight": 0.2 * torch.randn_like(embeddings)}, folder / "model.safetensors", _FORMAT)


def _shards(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="50KB")


def _stale_index(folder: Path) -> None:
    """Shards of another model and their index, beside the file that Transformers takes."""
    other = folder.with_name("other")
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: weight + 1 for name, weight in weights.items()}, other / "model.safetensors", _FORMAT)
    _shards(other)
    for file in [*other.glob("model-*.safetensors"), other / "model.safetensors.index.json"]:
        shutil.copy(file, folder)


def _short_names(folder: Path) -> None:
    """As OpenAI's GPT-2 lies on the hub: without the name of the part that is all but the head."""
    weights = load_file(folder / "model.safetensors")
    short = {name.removeprefix("transformer."): weight for name, weight in weights.items()}
    save_file(short, folder / "model.safetensors", _FORMAT)


def _in_dtype(folder: Path, dtype: str) -> None:
    AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).save_pretrained(folder)


def _templates(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = {"default": TEMPLATE, "tool_use": f"tools: {TEMPLATE}"}
    tokenizer.save_pretrained(folder)


def _adapter(folder: Path) -> Path:
    return _train_adapter(folder, folder)


def _adapter_alone(folder: Path) -> Path:
    return _train_adapter(folder, folder.with_name("adapter"))


def _train_adapter(base: Path, folder: Path) -> Path:
    """An adapter that changes much, saved with the name of its base."""
    wanted = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(base), wanted).save_pretrained(folder)
    path = folder / "adapter_config.json"
    told = json.loads(path.read_text("utf-8")) | {"base_model_name_or_path": str(base)}
    path.write_text(json.dumps(told), "utf-8")
    return folder


def _as_gguf(folder: Path) -> Path:
    return write_gguf(folder, folder.with_suffix(".gguf"), "float16")


BUNDLED = Case("SmolLM2 135M, bundled", "llama", prepare=lambda _: "smollm2-135m")
_FORMAT = {"format": "pt"}
_HALVES = ("bfloat16", "float16")
_LONG = {"max_position_embeddings": 256}
_UPPER_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3, "layer_types": None}
TOKENIZERS = {
    "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen2", "gemma2": "gemma", "gemma3_text": "gemma", "phi3": "phi3",
    "smollm3": "llama-bpe", "glm4": "gpt-4o", "olmo2": "dbrx",
}  # fmt: skip
_LONG_ROPE = {"rope_type": "longrope", "short_factor": [1.0, 1.1], "long_factor": [2.0, 3.0], "rope_theta": 5000.0}
_ROPE: dict[str, tuple[str, dict[str, Any]]] = {
    "a rotary base of its own": ("llama", {"rope_type": "default", "rope_theta": 500000.0}),
    "linear scaling": ("llama", {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}),
    "dynamic scaling": ("qwen3", {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 5000.0}),
    "YaRN": (
        "qwen2",
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 5000.0},
    ),
    "Llama 3's scaling": (
        "llama",
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
            "rope_theta": 5000.0,
        },
    ),
    "linear scaling, half of a head": (
        "gpt_neox",
        {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0, "partial_rotary_factor": 0.5},
    ),
    "half of a head": ("glm4", {"rope_type": "default", "rope_theta": 5000.0, "partial_rotary_factor": 0.5}),
    "linear scaling of its full layers": (
        "gemma3_text",
        {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 50000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0},
        },
    ),
    "linear scaling, which its config checks": ("olmo2", {"rope_type": "linear", "factor": 2.0, "rope_theta": 5000.0}),
    "a base as high as may be": ("cohere", {"rope_type": "default", "rope_theta": 8000000.0}),
}
