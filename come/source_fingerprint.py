"""What tells a model or a text from what lay at the same path before."""

from __future__ import annotations

import hashlib

from come.settings import expanded, file_and_column

_OF_A_MODEL = (".json", ".safetensors", ".model", ".jinja")  # a model card beside it changes nothing


def source_fingerprint(named: str) -> str:
    """A hash of when a file, or each file of a model's folder, was written, and of its bytes' number.

    It is "" for what is no path, such as a name on the hub, and for what is not there.
    """
    path = expanded(file_and_column(named)[0])
    try:
        files = [each for each in sorted(path.iterdir()) if each.suffix in _OF_A_MODEL] if path.is_dir() else [path]
        seen = [(file.name, file.stat()) for file in files if file.is_file()]
    except (OSError, ValueError):  # nothing there, or no name for a path
        return ""
    told = [(name, found.st_mtime_ns, found.st_size) for name, found in seen]
    return hashlib.sha256(repr(told).encode()).hexdigest()[:16] if told else ""
