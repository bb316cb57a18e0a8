"""Tables of what was measured once, as JSON files in ``COME_HOME``: without them it is measured again."""

from __future__ import annotations

import json
from contextlib import suppress
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


def _table(file: str) -> dict[str, Any]:
    table = json.loads(_path(file).read_text("utf-8"))
    if not isinstance(table, dict):
        raise ValueError("not a table")
    return table


def _path(file: str) -> Path:
    return settings.home() / file
