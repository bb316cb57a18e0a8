"""The model that a run keeps: in which dtype, and whether its weights are still those that were saved."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from come import reading
from come.errors import ComeError
from come.runs.run import MODEL, Run


def stored_dtype(run: Run) -> str | None:
    """The dtype of the model that the run keeps; None where it keeps none."""
    path = run.path / MODEL / "config.json"
    try:
        config = reading.values_in(reading.bytes_of(path), str(path))
    except (FileNotFoundError, ComeError):
        return None
    if not isinstance(config, dict):
        return None
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of each file of weights in a model's folder, by its name; results.json keeps them as ``weights``."""
    return {path.name: _sha256(path, reading.stamp(path)) for path in sorted(folder.glob("*.safetensors"))}


def changed_weights(run: Run) -> str:
    """The first file of weights that is gone or not as it was saved; "" where all are, or nothing is known of them.

    All of them are read, once while they do not change.
    """
    known: dict[str, str] = run.results().get("weights") or {}
    try:
        found = digests(run.path / MODEL)
    except OSError:
        found = {}
    return next((name for name, digest in known.items() if found.get(name) != digest), "")


@lru_cache(maxsize=256)
def _sha256(path: Path, stamp: object) -> str:
    del stamp
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
