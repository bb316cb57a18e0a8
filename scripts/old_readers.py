"""Do readers of other versions make the same of what is saved? .venv/bin/python -m scripts.old_readers PYTHON

PYTHON is the interpreter of an environment of its own, such as

    python3 -m venv old && old/bin/pip install transformers==4.55.4 torch gguf xllamacpp

Small random models of every family, and of the kinds below, are pruned, recovered, saved as a folder and, where that
can be, as GGUF. Transformers as it is here, and what PYTHON has, then read them (`scripts/read_saved.py`): logits and
tokens have to be the same. Prints a table as in docs/compatibility.md; the exit status is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

import come
from come.errors import ComeError
from come.export.gguf_families import FOLDER_INSTEAD, LAYOUTS, context_length
from come.export.gguf_write import write_gguf
from come.models import FAMILIES, Bundle
from tests.ggufs import ROWS, TEMPLATE, TEXT, gguf_folder
from tests.tiny import CASES as TINY
from tests.tiny import tiny_tokens

READER = Path(__file__).with_name("read_saved.py")
CLOSE = {"model": 1e-4, "llama_cpp": 5e-3}  # llama.cpp takes GELU from a table of half precision


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


def main() -> None:
    """Make the models, read them, print the tables."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("python", help="the interpreter of the other environment")
    asked.add_argument("--only", default="", help="only cases whose name holds this")
    asked.add_argument("--bundled", action="store_true", help="the bundled model as well, which takes a minute or two")
    asked.add_argument("--keep", type=Path, help="a new folder to leave the models in")
    options = asked.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as temporary:
        parent = options.keep or Path(temporary)
        os.environ["COME_HOME"] = str(Path(temporary) / "home")
        chosen = [case for case in (*cases(), *([_BUNDLED] if options.bundled else [])) if options.only in case.name]
        if not chosen:
            sys.exit(f"No case has {options.only} in its name.")
        made = {case.name: (case, make(case, parent / case.name)) for case in chosen}
        readings = [read(python, parent, list(made)) for python in (sys.executable, options.python)]
    for versions, _ in readings:
        print("Read by", ", ".join(f"{name} {number}" for name, number in versions.items() if number), end=".\n\n")
    print("| family | model | reads back | reads back, older | GGUF | llama.cpp |\n|---|---|---|---|---|---|")
    wrong = 0
    for name, (case, refused) in made.items():
        new, old = (found[name] for _, found in readings)
        cells = [_cell(new, "model", "tokenizer"), _cell(old, "model", "tokenizer")]
        cells += [_cell(new, "gguf"), _cell(old, "llama_cpp")] if not refused else [refused, ""]
        wrong += any(cell.startswith("NO") for cell in cells)
        print("|", " | ".join((FAMILIES[case.family.partition(":")[0]].title, case.title, *cells)), "|")
    sys.exit(f"{wrong} of {len(made)} are read otherwise." if wrong else None)


def cases() -> list[Case]:
    """What is tried: every family and variant, every way to count positions, and kinds of folders."""
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
        *(Case("several chat templates", family, prepare=_templates) for family in ("llama", "qwen3")),
        *(Case("a GGUF file", family, prepare=_as_gguf) for family in ("llama", "qwen2", "gpt2")),
    ]


def make(case: Case, folder: Path) -> str:
    """Prune, recover and save a case, as a folder and as GGUF, with what readers have to make of it.

    Returns:
        Why it is no GGUF file; "" where it is one.
    """
    family = case.family.partition(":")[0]
    kind = case.tokenizer or _TOKENIZERS.get(family, "gpt-2")
    source = gguf_folder(folder / "source", case.family, kind, layers=6, **case.changes)
    bundle = come.load(case.prepare(source) or source if case.prepare else source, "cpu")
    tokens = tiny_tokens(6, 32)
    pruned = come.compress(bundle, tokens, target_layers=len(bundle.layers) - 2).bundle
    pruned = come.recover(pruned, bundle, tokens, "refit", control=True).bundle
    come.save(pruned, folder / "model")
    _expect(pruned, folder)
    if family not in LAYOUTS:
        return "-"
    try:
        write_gguf(folder / "model", folder / "model.gguf", "float32")
    except ComeError as error:
        return str(error).removesuffix(f" {FOLDER_INSTEAD}")
    return ""


def _expect(bundle: Bundle, folder: Path) -> None:
    """Write down what a reader has to find."""
    tokenizer, model = bundle.tokenizer, copy.deepcopy(bundle.model).float()
    ids = tokenizer(TEXT).input_ids
    layout = LAYOUTS.get(model.config.model_type)
    prompt = ids[: context_length(model.config, layout) - 1] if layout else ids  # readers of GGUF take no more
    tokens = tiny_tokens(2, 200)
    with torch.inference_mode():
        save_file({"tokens": tokens, "logits": model(tokens).logits}, folder / "expected.safetensors")
        last = model(torch.tensor([prompt])).logits[0, -1].log_softmax(dim=-1)
    told = {
        "text": TEXT,
        "ids": ids,
        "prompt": prompt,
        "chat_template": tokenizer.chat_template,
        **{f"{name}_token": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")},
        "log_probabilities": last.tolist(),
        "layers": len(bundle.layers),
        "parameters": sum(parameter.numel() for parameter in bundle.model.parameters()),
        "soft_cap": getattr(model.config, "attn_logit_softcapping", None) is not None,
    }
    (folder / "expected.json").write_text(json.dumps(told), "utf-8")


def read(python: str, parent: Path, names: list[str]) -> tuple[dict[str, str | None], dict[str, dict[str, Any]]]:
    """What an interpreter makes of the saved models: its versions, and by name what it found."""
    command = [python, str(READER), *(str(parent / name) for name in names)]
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=clean, cwd=parent)
    versions, *found = map(json.loads, filter(lambda line: line.startswith("{"), done.stdout.splitlines()))
    return versions, {each["case"]: each for each in found}


def _cell(found: dict[str, Any], *parts: str) -> str:
    for part in parts:
        told = found.get(part)
        if told is None:
            return "not tried"
        if told.get("wrong") or not told.get("off", 0.0) <= CLOSE.get(part, 0.0):
            return f"NO: {part}: {told.get('wrong') or 'logits are off by {:.2g}'.format(told['off'])}"
    return "yes"


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


def _as_gguf(folder: Path) -> Path:
    return write_gguf(folder, folder.with_suffix(".gguf"), "float16")


_BUNDLED = Case("SmolLM2 135M, bundled", "llama", prepare=lambda _: "smollm2-135m")
_FORMAT = {"format": "pt"}
_HALVES = ("bfloat16", "float16")
_LONG = {"max_position_embeddings": 256}
_UPPER_WINDOWS = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 3, "layer_types": None}
_TOKENIZERS = {
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


if __name__ == "__main__":
    main()
