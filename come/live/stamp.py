"""What tells a file or a folder from what lay at the same path before."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[tuple[str, int, int], ...]
"""Of each file: its name, when it was written (ns), its bytes."""


def stamp(named: str) -> Stamp:
    """The stamp of a file, or of the files right in a folder; empty for what is no path, such as a name on the hub."""
    path = Path(named).expanduser()
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        seen = [(file.name, file.stat()) for file in files if file.is_file()]
    except OSError:
        return ()  # reading it says what is wrong
    return tuple((name, found.st_mtime_ns, found.st_size) for name, found in seen)
