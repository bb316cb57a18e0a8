"""Loading a model, from wherever it is, onto whatever device there is."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from come import settings
from come.errors import ComeError
from come.events import OnProgress, emit
from come.models.adapter import merged
from come.models.bundle import Bundle
from come.models.families import family_of
from come.models.gguf import convert
from come.models.not_finite import refuse_not_finite
from come.models.quantized import DTYPE as QUANTIZED_DTYPE
from come.models.quantized import method_of, unpack
from come.models.skeleton import skeleton, tokenizer_of
from come.models.source import Source, read_config, readable, resolve, to_read_from
from come.models.strict import read_model
from come.models.text_tower import note, wrapper_at

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
            safetensors once and kept in ``COME_HOME``; an adapter's folder is its base model with it merged in.
        device: "cpu", "cuda", "cuda:1", "mps", "balanced" to spread the layers over all GPUs and main memory
            (accelerate's ``device_map``), or "auto" for the best there is: "balanced" where there are several GPUs,
            or one on which the weights do not fit.
        dtype: "float32", "bfloat16", "float16", or "auto" for the one that the weights are stored in
            (quantized ones, which are unpacked: bfloat16).
        on_progress: told of each stage.
        max_memory: with "balanced": how much each device may hold, such as {0: "20GB", "cpu": "60GB"}; what does
            not fit stays on disk, in ``COME_HOME``, and is fetched when it is needed.

    Raises:
        ComeError: there is no such model, its family is not supported, it cannot be read or fetched, its files do
            not hold the very weights that its config calls for, weights are no finite numbers, or the device or dtype
            does not exist.
    """
    from come.models.auto import quiet

    place = _device(device)
    precision = torch_dtype(dtype)
    origin = resolve(source)
    if origin.kind == "gguf":
        origin = Source("folder", str(convert(origin.path, on_progress)))
    with readable(origin):
        where = to_read_from(origin)
        config = read_config(origin, where)
        family = family_of(config)
        empty = skeleton(origin, where, config, family)
        tokenizer = tokenizer_of(origin, where, config)
    if (quantized := bool(method_of(config))) and isinstance(precision, str):
        precision = QUANTIZED_DTYPE
    if device == "auto" and place == "cuda" and not _fits_on_gpu(empty, precision):
        place = "balanced"
    emit(on_progress, "load", 0, 1, f"Loading {os.fspath(source)}")
    with readable(origin), quiet():
        model = read_model(where, config, origin.name, dtype=precision, **_placement(origin, place, max_memory))
        if quantized:
            model = unpack(model)
        if origin.adapter:
            emit(on_progress, "load", 0, 1, f"Merging the adapter {origin.adapter} into {origin.where}")
            model = merged(model, Path(origin.adapter))
        if place != "balanced":
            model.to(place)
    model.eval()
    emit(on_progress, "load", 1, 1, f"Loaded {os.fspath(source)}")
    wrapper, revision = wrapper_at(where), getattr(config, "_commit_hash", None)
    notes = [note(wrapper, config)] if wrapper else []
    if origin.adapter:
        notes.append(f"The adapter {Path(origin.adapter).name} was merged into {Path(origin.where).name}.")
    bundle = Bundle(model, tokenizer, family, os.fspath(source), revision, notes=tuple(notes))
    refuse_not_finite(bundle)
    return bundle


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


def _fits_on_gpu(empty: Any, dtype: torch.dtype | str) -> bool:
    """Whether the weights, and as much room again as a tenth of the GPU, fit into what is free of it."""
    stored = dtype if isinstance(dtype, torch.dtype) else getattr(empty.config, "dtype", None) or torch.float32
    weights: int = sum(parameter.numel() for parameter in empty.parameters()) * stored.itemsize
    free, whole = torch.cuda.mem_get_info()
    return weights + whole // 10 <= free


def _placement(origin: Source, place: str, max_memory: Mapping[int | str, int | str] | None) -> dict[str, Any]:
    """What ``from_pretrained`` is told of where the weights go; nothing where they are moved afterwards."""
    if place != "balanced":
        return {}
    offloaded = settings.home() / "offloaded" / hashlib.sha256(origin.where.encode()).hexdigest()[:12]
    return {"device_map": "auto", "max_memory": max_memory, "offload_folder": str(offloaded)}
