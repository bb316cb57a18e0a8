"""Texts that visitors upload, kept by their content so that a run finds them again."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

from come import settings
from come.errors import ComeError
from come.text import read

_LONGEST_NAME = 80  # characters, the ending among them


def keep_text(name: str, content: bytes, column: str = "") -> str:
    """Store an uploaded text under ``settings.home()/texts`` and return it as ``come.tokens`` takes it.

    Args:
        name: the file's name, under which it is shown; its ending tells what it is.
        content: its bytes.
        column: of rows, the field or column to read where their form is none of the known ones.

    Raises:
        ComeError: it cannot be read as text, or there is no room for it; nothing stays behind.
    """
    path = settings.home() / "texts" / hashlib.sha256(content).hexdigest()[:16] / _plain(name)
    text = f"{path}:{column}" if column and path.suffix.lower() != ".txt" else str(path)
    is_new = not path.is_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_new:
            path.write_bytes(content)
    except OSError as error:
        _forget(path)
        raise ComeError("The text could not be stored.", f"Make room in {path.parent.parent}.") from error
    try:
        read(text)
    except ComeError:
        if is_new:
            _forget(path)
        raise
    return text


def _plain(name: str) -> str:
    """A file's name without folders and without what a path, or a line of a log, should not hold."""
    last = Path(name.replace("\\", "/")).name
    stem, ending = Path(last).stem, Path(last).suffix.lower()[:16]
    shown = "".join(character for character in stem if character.isprintable() and character not in ':*?"<>|')
    return (shown.strip(" .")[: _LONGEST_NAME - len(ending)] or "text") + ending


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # the same bytes may be there under another name
        path.parent.rmdir()
