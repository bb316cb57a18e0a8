"""The model that a run keeps: in which dtype, and whether its files are still those that were saved."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

from come import reading
from come.errors import ComeError
from come.runs.run import MODEL, Run

_AT_ONCE = 4 << 20  # bytes
CARD = "README.md"  # which anybody may write on


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
    """SHA-256 of each file in a model's folder but the card, by its path there; in results.json ``model_files``.

    Raises:
        ComeError: one of them is no regular file, or may not be read.
        FileNotFoundError: one went away meanwhile.
    """
    # Folders in it, too: a tokenizer with several chat templates has one.
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / CARD)
    return {path.relative_to(folder).as_posix(): _sha256(path, reading.stamp(path)) for path in paths}


def changed_file(run: Run) -> str:
    """The first file of the model that is gone or not as it was saved; "" where all are, or nothing is known of them.

    All of them are read, once while they do not change.
    """
    known: dict[str, str] = run.results().get("model_files") or {}
    for name, digest in known.items():
        path = run.path / MODEL / name
        try:
            if _sha256(path, reading.stamp(path)) != digest:
                return name
        except (OSError, ComeError):
            return name
    return ""


@lru_cache(maxsize=256)
def _sha256(path: Path, stamp: object) -> str:
    del stamp
    digest = hashlib.sha256()
    with reading.opened(path) as file:  # which may be anything by now, also what could be read for ever
        while part := file.read(_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()
