"""Reads models as any reader would, with what the interpreter at hand has: PYTHON scripts/read_saved.py FOLDER...

It needs nothing of CoMe Lab. Each folder holds `model/`, perhaps `model.gguf`, and what is to come out: `expected.json`
and `expected.safetensors`. One line of JSON a folder tells how far off the logits are, and what else is another.
`scripts/old_readers.py` makes such folders and runs this.
"""

from __future__ import annotations

import json
import sys
import urllib.request
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

PACKAGES = ("transformers", "torch", "tokenizers", "gguf", "xllamacpp")


def main() -> None:
    """Read each folder that is named."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    print(json.dumps({name: _version(name) for name in PACKAGES}))
    for folder in map(Path, sys.argv[1:]):
        wanted = json.loads((folder / "expected.json").read_text("utf-8"))
        found: dict[str, Any] = {"case": folder.name}
        for what, reader in (("model", _model), ("tokenizer", _tokenizer), ("gguf", _gguf), ("llama_cpp", _llama_cpp)):
            try:
                found[what] = reader(folder, wanted)
            except Exception as error:
                found[what] = {"wrong": f"{type(error).__name__}: {error}"[:300]}
        print(json.dumps(found), flush=True)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _model(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    tensors = load_file(folder / "expected.safetensors")
    # All that Transformers 4 has but the eager attention leave out Gemma 2's soft cap.
    how = {"attn_implementation": "eager"} if wanted["soft_cap"] else {}
    model, report = AutoModelForCausalLM.from_pretrained(folder / "model", output_loading_info=True, **how)
    keys = {kind: list(names) for kind, names in report.items() if kind.endswith("_keys") and names}
    with torch.inference_mode():
        logits = model.float().eval()(tensors["tokens"]).logits
    return {"off": float((logits - tensors["logits"]).abs().max())} | ({"wrong": str(keys)} if keys else {})


def _tokenizer(folder: Path, wanted: dict[str, Any]) -> dict[str, Any]:
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    told = {"ids": tokenizer(wanted["text"]).input_ids, "chat_template": tokenizer.chat_template}
    told |= {name: getattr(tokenizer, f"{name}_id") for name in ("bos_token", "eos_token", "pad_token")}
    other = [name for name, value in told.items() if value != wanted[name]]
    found = {"class": type(tokenizer).__name__}
    return found | ({"wrong": f"another {', '.join(other)}"} if other else {})


def _gguf(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    if not (folder / "model.gguf").is_file():
        return None
    from gguf import GGUFReader

    reader = GGUFReader(folder / "model.gguf")
    arch = reader.fields["general.architecture"].contents()
    layers = int(reader.fields[f"{arch}.block_count"].contents())
    blocks = {tensor.name.split(".")[1] for tensor in reader.tensors if tensor.name.startswith("blk.")}
    values = sum(int(tensor.n_elements) for tensor in reader.tensors if not tensor.name.startswith("rope_"))
    if (layers, len(blocks), values) != (wanted["layers"], wanted["layers"], wanted["parameters"]):
        return {"wrong": f"{layers} layers, {len(blocks)} of them with tensors, {values} values"}
    return {}


def _llama_cpp(folder: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """By llama.cpp itself, whose server tells how probable each next token is."""
    if not (folder / "model.gguf").is_file() or _version("xllamacpp") is None:
        return None
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = str(folder / "model.gguf")
    options.n_gpu_layers, options.n_ctx, options.warmup, options.verbosity = 0, 256, False, -1
    options.cpuparams.n_threads = 1
    options.cache_type_k = options.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    options.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(options)
    asked = {"content": wanted["text"], "add_special": True, "parse_special": True}
    if _ask(server, "/tokenize", **asked)["tokens"] != wanted["ids"]:
        return {"wrong": "other tokens"}
    count = len(wanted["log_probabilities"])
    for seed in range(50):  # it tells nothing where the token it drew is part of a character
        asked = {"prompt": wanted["prompt"], "n_predict": 1, "n_probs": count, "temperature": 1.0, "seed": seed}
        if told := _ask(server, "/completion", **asked).get("completion_probabilities"):
            break
    else:
        return {"wrong": "no probabilities"}
    found = {each["id"]: each["logprob"] for each in told[0]["top_logprobs"]}
    return {"off": max(abs(found[token] - value) for token, value in enumerate(wanted["log_probabilities"]))}


def _ask(server: Any, path: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        server.listening_address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


if __name__ == "__main__":
    main()
