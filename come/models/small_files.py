"""The small files of a model's folder: how long each may be, and that it is what it should be, before another library
reads it.

Transformers reads all of them whole, and takes what it finds there at its word.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from come.bounded_json import parse_json, read_bytes, refuse_large_json
from come.errors import ComeError

_KIB, _MIB = 1 << 10, 1 << 20


@dataclass(frozen=True)
class Bound:
    """What one of these files may be.

    Attributes:
        bytes: how long; several times what the largest of known models has.
        parts: of a JSON file: how many values. Without any it is no JSON.
        depth: how many lists and objects may lie in each other.
        of: what a JSON file must be; None where it is not read here but only looked over, because it is long, and may
            hold any characters, which are tokens.
    """

    bytes: int
    parts: int = 0
    depth: int = 32
    of: type | None = dict


BOUNDS: dict[str, Bound] = {
    "config.json": Bound(2 * _MIB, 100_000),
    "*config.*.json": Bound(2 * _MIB, 100_000),  # for versions of Transformers
    "generation_config.json": Bound(_MIB, 50_000),
    "adapter_config.json": Bound(_MIB, 50_000),
    "model.safetensors.index.json": Bound(32 * _MIB, 400_000),
    "tokenizer.json": Bound(64 * _MIB, 4_000_000, 64, None),
    "*tokenizer.*.json": Bound(64 * _MIB, 4_000_000, 64, None),
    "tokenizer_config.json": Bound(16 * _MIB, 500_000),
    "special_tokens_map.json": Bound(2 * _MIB, 50_000),
    "added_tokens.json": Bound(4 * _MIB, 200_000),
    "vocab.json": Bound(32 * _MIB, 1_000_000, 4, None),
    "tekken.json": Bound(32 * _MIB, 1_000_000, 8, None),
    "chat_template.json": Bound(_MIB, 1_000),
    "processor_config.json": Bound(_MIB, 10_000),
    "preprocessor_config.json": Bound(_MIB, 10_000),
    "video_preprocessor_config.json": Bound(_MIB, 10_000),
    "*.jinja": Bound(_MIB),
    **dict.fromkeys(
        ("vocab.txt", "merges.txt", "dict.txt", "*.model", "*.tiktoken", "*.bpe", "*.spm", "*.codes", "*.vocab"),
        Bound(32 * _MIB),
    ),
}
_NOT_FINITE = ("config.json", "tokenizer_config.json")  # told by name in ``plausible``; the longest text, Infinity
MOST_FILES = 20_000  # of a model's folder
TEMPLATES = "additional_chat_templates"
_VERSIONS = ("configuration_files", "fast_tokenizer_files")  # by which Transformers takes another file instead
_TRUST = "Do not trust this model; or save it again with save_pretrained."
CARD = 64 * _KIB  # of a model card this much is read, from its beginning


def refuse_hostile_files(folder: Path) -> None:
    """Look over all small files of a model's folder.

    Raises:
        ComeError: one is longer, deeper or of more parts than any model needs, is no JSON where it should be, cannot
            be read, or is a folder, a pipe or a device.
    """
    for path in _all_files(folder):
        if _is_device(path):
            raise ComeError(f"{path} is no plain file.", "Remove it, or fetch or copy the model again.")
        bound = bound_of(path.name)
        if bound is None:
            continue
        found = _look_over(path, bound)
        for versions in _VERSIONS:
            if isinstance(found, dict) and not _are_names(found.get(versions, [])):
                raise ComeError(f"{path} names files in {versions} that are none of its folder.", _TRUST)


def read_small_json(path: Path) -> dict[str, Any]:
    """The object in one of these JSON files.

    Raises:
        ComeError: as ``refuse_hostile_files``.
    """
    bound = bound_of(path.name)
    assert bound is not None and bound.of is dict
    found: dict[str, Any] = _look_over(path, bound)
    return found


def bound_of(name: str) -> Bound | None:
    """What a file of such a name may be; None where the name says nothing."""
    return next((bound for pattern, bound in BOUNDS.items() if fnmatch(name, pattern)), None)


def _is_device(path: Path) -> bool:
    """Whether whoever opens it may wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except OSError:  # a link to nothing, or to itself
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _are_names(told: Any) -> bool:
    return isinstance(told, list) and all(isinstance(each, str) and Path(each).name == each for each in told)


def _all_files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
        templates = folder / TEMPLATES
        more = sorted(os.listdir(templates)) if os.path.isdir(templates) else []
    except OSError as error:
        raise ComeError(f"{folder} cannot be read: {error.strerror}.", "Check its permissions.") from error
    if len(names) + len(more) > MOST_FILES:
        raise ComeError(f"{folder} holds {len(names):,} files.", "Put the model into a folder of its own.")
    yield from (folder / name for name in names)
    yield from (templates / name for name in more)


def _look_over(path: Path, bound: Bound) -> Any:
    data = read_bytes(path, bound.bytes)
    if not bound.parts:
        return None
    if bound.of is None:
        if data.lstrip()[:1] != b"{":
            raise ComeError(f"{path} is no JSON object.", "Fetch or copy it again, whole.")
        return refuse_large_json(data, os.fspath(path), bound.depth, bound.parts)
    found = parse_json(data, os.fspath(path), bound.depth, bound.parts, path.name not in _NOT_FINITE)
    if not isinstance(found, bound.of):
        raise ComeError(f"{path} is no JSON object.", "Fetch or copy it again, whole.")
    return found


def head_of_card(path: Path) -> str:
    """The beginning of a model card; "" where there is none that can be read."""
    try:
        if not os.path.isfile(path):
            return ""
        with path.open("rb") as file:
            return file.read(CARD).decode("utf-8", errors="replace")
    except (OSError, ValueError):
        return ""
