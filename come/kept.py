"""Tables of what was measured once, as JSON files in ``COME_HOME``: without them it is measured again."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from come import settings
from come.errors import ComeError
from come.files import replace


def kept(file: str, key: str) -> dict[str, Any]:
    """An entry of a table.

    Raises:
        OSError, ValueError, TypeError, KeyError: it is not there, or damaged.
    """
    return dict(_table(file)[key])


def keep(file: str, key: str, values: dict[str, Any]) -> None:
    """Add an entry to a table, or renew it; where that cannot be written, nothing is kept."""
    with suppress(OSError, ComeError):
        table: dict[str, Any] = {}
        with suppress(OSError, ValueError):
            table = _table(file)
        _path(file).parent.mkdir(parents=True, exist_ok=True)
        replace(_path(file), json.dumps({**table, key: values}, indent=1))


def key_of(dtype: str, device: str) -> str:
    """What tells one machine's device in a dtype from another."""
    return f"{device}, {dtype}, torch {version('torch')}, {processor()}, {os.cpu_count()} cores"


def processor() -> str:
    """The name of this machine's processor."""
    with suppress(OSError, StopIteration), open("/proc/cpuinfo", encoding="utf-8") as file:
        return next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    return platform.processor() or platform.machine()


def _table(file: str) -> dict[str, Any]:
    table = json.loads(_path(file).read_text("utf-8"))
    if not isinstance(table, dict):
        raise ValueError("not a table")
    return table


def _path(file: str) -> Path:
    return settings.home() / file
