"""Where things are kept, and names that somebody typed as paths."""

from __future__ import annotations

import os
import re
from pathlib import Path

_COLUMN = re.compile(r"(.+?\.(?:jsonl|json|csv|parquet)):(.+)", re.IGNORECASE | re.DOTALL)
_ROWS = re.compile(r"(.+):(rows=([1-9]\d{0,8}),seed=(\d{1,9}))", re.DOTALL)


def home() -> Path:
    """The folder for converted models and measured numbers: ``COME_HOME``, else ``~/.cache/come``."""
    return Path(os.environ.get("COME_HOME") or Path.home() / ".cache" / "come").expanduser()


def runs_dir() -> Path:
    """The folder of the runs: ``COME_RUNS``, else ``runs`` in the working directory."""
    return Path(os.environ.get("COME_RUNS") or "runs").expanduser()


def expanded(name: str | os.PathLike[str]) -> Path:
    """The path of a name, with "~" replaced where it is somebody's home; nothing is raised.

    Look for what is there with ``os.path``, which says no where ``Path`` raises, as for a name of 300 characters.
    """
    try:
        return Path(os.path.expanduser(name))
    except ValueError:  # it names the home of somebody with a NUL character
        return Path(name)


def is_text(name: str) -> bool:
    """Whether a name is of whole characters, which names of files need not be; nothing else can be written down."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name


def file_and_column(text: str) -> tuple[str, str]:
    """A text's file, and what of it was named behind a colon: a column ("answers.csv:body"), rows, or ""."""
    found = None if os.path.exists(expanded(text)) else _ROWS.fullmatch(text) or _COLUMN.fullmatch(text)
    return (found[1], found[2]) if found else (text, "")


def rows_of(text: str) -> tuple[str, int, int] | None:
    """Of a text that is some rows of another ("wikitext2:rows=256,seed=10"), the other, how many and the seed."""
    found = None if os.path.exists(expanded(text)) else _ROWS.fullmatch(text)
    return (found[1], int(found[3]), int(found[4])) if found else None
