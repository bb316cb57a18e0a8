"""Texts that visitors upload, kept by their content so that a run finds them again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from come import settings
from come.errors import ComeError
from come.text import read


def keep_text(name: str, content: bytes) -> Path:
    """Store an uploaded text under ``settings.home()/texts`` and return its path.

    Args:
        name: the file's name, for its ending (.txt or .jsonl).
        content: its bytes.

    Raises:
        ComeError: it cannot be read as text, or there is no room for it; nothing stays behind.
    """
    ending = Path(name).suffix.lower()
    folder = settings.home() / "texts"
    path = folder / f"{hashlib.sha256(content).hexdigest()[:16]}{ending}"
    if path.is_file():
        return path
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ComeError("The text could not be stored.", f"Make room in {folder}.") from error
    try:
        read(path)
    except ComeError:
        path.unlink(missing_ok=True)
        raise
    return path
