"""Loading a model, from wherever it is, onto whatever device there is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import torch
from accelerate import init_empty_weights

from come import settings
from come.errors import ComeError
from come.events import OnProgress, emit
from come.models.bundle import Bundle
from come.models.families import family_of
from come.models.gguf import convert
from come.models.source import Source, read_config, readable, resolve, to_read_from

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def load(
    source: str | os.PathLike[str],
    device: str = "auto",
    dtype: str | torch.dtype = "auto",
    on_progress: OnProgress = None,
    max_memory: Mapping[int | str, int | str] | None = None,
) -> Bundle:
    """A model, ready to be measured, pruned and saved.

    Args:
        source: "smollm2-135m" (bundled), a folder, a .gguf file, or a hub id. A .gguf file is converted to
            safetensors once and kept in ``COME_HOME``.
        device: "cpu", "cuda", "cuda:1", "mps", "balanced" to spread the layers over all GPUs and main memory
            (accelerate's ``device_map``), or "auto" for the best there is: "balanced" where there are several GPUs,
            or one on which the weights do not fit.
        dtype: "float32", "bfloat16", "float16", or "auto" for the one that the weights are stored in.
        on_progress: told of each stage.
        max_memory: with "balanced": how much each device may hold, such as {0: "20GB", "cpu": "60GB"}; what does
            not fit stays on disk, in ``COME_HOME``, and is fetched when it is needed.

    Raises:
        ComeError: there is no such model, its family is not supported, it cannot be read or fetched, or the
            device or dtype does not exist.
    """
    place = _device(device)
    precision = torch_dtype(dtype)
    origin = resolve(source)
    if origin.kind == "gguf":
        origin = Source("folder", str(convert(origin.path, on_progress)))
    config = read_config(origin)
    family = family_of(config)
    if device == "auto" and place == "cuda" and not _fits_on_gpu(config, precision):
        place = "balanced"
    emit(on_progress, "load", 0, 1, f"Loading {os.fspath(source)}")
    model, tokenizer = _from_pretrained(origin, precision, place, max_memory)
    emit(on_progress, "load", 1, 1, f"Loaded {os.fspath(source)}")
    return Bundle(model, tokenizer, family, os.fspath(source), getattr(config, "_commit_hash", None))


def torch_dtype(dtype: str | torch.dtype) -> torch.dtype | str:
    """A dtype by its name; "auto" stays "auto".

    Raises:
        ComeError: no such dtype is offered.
    """
    if isinstance(dtype, torch.dtype) or dtype == "auto":
        return dtype
    if dtype not in DTYPES:
        raise ComeError(f"There is no dtype {dtype!r}.", f"Choose one of auto, {', '.join(DTYPES)}.")
    return DTYPES[dtype]


def _device(device: str) -> str:
    if device == "auto":
        if torch.cuda.is_available():
            return "cuda" if torch.cuda.device_count() == 1 else "balanced"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    if device != "balanced":
        device_named(device)
    return device


def device_named(name: str) -> torch.device:
    """A device of this machine by its name, such as cpu, cuda:1 or mps.

    Raises:
        ComeError: there is none of that name.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ComeError(f"There is no device {name!r}.", "Choose auto, cpu, cuda, mps or balanced.") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, False):
        raise ComeError(f"This machine has no {device.type} device.", "Choose auto or cpu.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ComeError(f"This machine has only {torch.cuda.device_count()} CUDA device(s).", "Choose cuda:0.")
    return device


def _fits_on_gpu(config: Any, dtype: torch.dtype | str) -> bool:
    """Whether the weights, and as much room again as a tenth of the GPU, fit into what is free of it."""
    from come.models.auto import AutoModelForCausalLM

    with init_empty_weights():
        empty = AutoModelForCausalLM.from_config(config)
    stored = dtype if isinstance(dtype, torch.dtype) else getattr(config, "dtype", None) or torch.float32
    weights: int = sum(parameter.numel() for parameter in empty.parameters()) * stored.itemsize
    free, whole = torch.cuda.mem_get_info()
    return weights + whole // 10 <= free


def _from_pretrained(
    origin: Source, dtype: torch.dtype | str, device: str, max_memory: Mapping[int | str, int | str] | None
) -> tuple[Any, Any]:
    from come.models.auto import AutoModelForCausalLM, AutoTokenizer, quiet

    placement: dict[str, Any] = {}
    if device == "balanced":
        offloaded = settings.home() / "offloaded" / hashlib.sha256(origin.where.encode()).hexdigest()[:12]
        placement = {"device_map": "auto", "max_memory": max_memory, "offload_folder": str(offloaded)}
    with readable(origin), quiet():
        where = to_read_from(origin)
        model = AutoModelForCausalLM.from_pretrained(where, dtype=dtype, use_safetensors=True, **placement)
        tokenizer = AutoTokenizer.from_pretrained(where)
        if not placement:
            model.to(device)
    model.eval()
    return model, tokenizer
