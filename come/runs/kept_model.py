"""The model that a run keeps: in which dtype, and whether its files are still those that were saved."""

from __future__ import annotations

import hashlib
import stat
from functools import lru_cache
from itertools import islice
from pathlib import Path

from come import reading
from come.errors import ComeError
from come.runs.run import MODEL, Run

CARD = "README.md"  # which anybody may write on
LARGEST_CARD = 1 << 20  # bytes
_AT_ONCE = 4 << 20  # bytes
_BESIDE_WEIGHTS = 256 << 20  # bytes: a tokenizer, and what a file says of its weights
_MOST_LOOKED_AT = 20_000  # files


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
    paths = [path for path in regular_files(folder) if path != folder / CARD]
    return {path.relative_to(folder).as_posix(): _sha256(path, reading.stamp(path)) for path in paths}


def regular_files(folder: Path) -> list[Path]:
    """The files in a model's folder and in folders of it, which a tokenizer with several templates has; no links."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def changed_file(run: Run) -> str:
    """The first file of the model that is gone, not as it was saved, or was not saved with it; "" where none is.

    All of them are read, once while they do not change. Of an older run, whose results do not tell of its files, only
    what is no regular file counts: a link leads to somebody else's.
    """
    folder, known = run.path / MODEL, run.results().get("model_files") or {}
    most = _most_bytes(run)
    for path in islice(folder.rglob("*"), _MOST_LOOKED_AT):
        name = path.relative_to(folder).as_posix()
        if _is_odd(path, most) or (known and path.is_file() and name not in {*known, CARD}):
            return name
    if not (folder / CARD).is_file() or (folder / CARD).stat().st_size > LARGEST_CARD:
        return CARD
    for name, digest in known.items():
        path = folder / name
        try:
            if _sha256(path, reading.stamp(path)) != digest:
                return str(name)
        except (OSError, ComeError):
            return str(name)
    return ""


def _is_odd(path: Path, most: int) -> bool:
    """Whether something is neither a folder nor a regular file of at most so many bytes."""
    try:
        known = path.lstat()
    except OSError:
        return True
    return not stat.S_ISDIR(known.st_mode) and (not stat.S_ISREG(known.st_mode) or known.st_size > most)


def _most_bytes(run: Run) -> int:
    """More than any file of the model has: all of the base in float32. A file with holes may say it has terabytes."""
    try:
        plan = run.plan()
    except ComeError:
        plan = None
    return _BESIDE_WEIGHTS + (4 * plan.base.parameters if plan is not None else 0)


@lru_cache(maxsize=256)
def _sha256(path: Path, stamp: object) -> str:
    del stamp
    digest = hashlib.sha256()
    with reading.opened(path) as file:  # which may be anything by now, also what could be read for ever
        while part := file.read(_AT_ONCE):
            digest.update(part)
    return digest.hexdigest()
