"""A cache on disk, in ``COME_HOME``, of what evaluating an original model gave: the same for all runs that prune it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from come import reading, settings
from come.errors import ComeError
from come.evaluate import Perplexity, Reference, perplexity_of_reference, reference
from come.events import OnProgress
from come.files import replace, written_whole
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.identity import identity

LARGEST = 256 << 20  # bytes of hidden states that are worth keeping on disk


def kept(key: object, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Metrics by key, measured if they are not in the cache.

    Args:
        key: all that they depend on; its ``repr`` tells it from others.
        measure: gives them, JSON-ready.
    """
    path = _path(key, "json")
    with suppress(FileNotFoundError, ComeError, TypeError, ValueError):
        return dict(reading.values_in(reading.bytes_of(path), str(path)))
    metrics = measure()
    with suppress(OSError, ComeError):  # what cannot be kept is measured again another time
        path.parent.mkdir(parents=True, exist_ok=True)
        replace(path, json.dumps(metrics))
    return metrics


def kept_reference(
    original: Bundle, tokens: Tensor, batch_size: int | None, on_progress: OnProgress = None
) -> tuple[Reference, Perplexity]:
    """An original's hidden states before the head, on tokens, int64 (sequences, tokens), and its perplexity there.

    They are read from the cache, or computed and, up to ``LARGEST``, kept.

    Raises:
        ComeError: the original's values are not finite.
    """
    text = hashlib.sha256(tokens.numpy().tobytes()).hexdigest(), tuple(tokens.shape)
    path = _path(("reference", *identity(original), text, batch_size), "safetensors")
    with suppress(FileNotFoundError, ComeError, KeyError, TypeError, ValueError):
        known, perplexity = _read(path, original, tokens, batch_size)
        # Earlier versions kept those of models that overflow, and no losses.
        if math.isfinite(perplexity.value) and perplexity.losses:
            return known, perplexity
    known = reference(original, tokens, batch_size=batch_size, on_progress=on_progress)
    perplexity = perplexity_of_reference(known)
    if sum(states.nbytes for states in known.states) <= LARGEST:
        with suppress(OSError, ComeError, SafetensorError):  # safetensors has a class of its own for a full disk
            _write(path, known, perplexity)
    return known, perplexity


def _write(path: Path, known: Reference, perplexity: Perplexity) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    states = {str(batch): states.contiguous() for batch, states in enumerate(known.states)}
    with written_whole(path) as temporary:
        save_file(states, temporary, metadata={"perplexity": json.dumps(asdict(perplexity))})


def _read(path: Path, original: Bundle, tokens: Tensor, batch_size: int | None) -> tuple[Reference, Perplexity]:
    tensors, told = reading.tensors_of(path)
    states = [tensors[str(batch)] for batch in range(len(tensors))]
    reading.require_finite(path, tensors)
    kept_numbers = json.loads(told["perplexity"])
    perplexity = Perplexity(**kept_numbers | {"losses": tuple(kept_numbers.get("losses", ()))})
    device = next(original.model.get_submodule(original.family.final_norm).parameters()).device
    device = torch.device("cpu") if device.type == "meta" else device  # a hook moves what comes in
    return Reference(original, LayerRunner(original), tokens, states, device, batch_size), perplexity


def _path(key: object, kind: str) -> Path:
    return settings.home() / "measured" / f"{_hash(repr(key))}.{kind}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
