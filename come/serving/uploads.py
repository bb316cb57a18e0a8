"""Texts that visitors upload, kept by their content so that a run finds them again."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from come import settings
from come.errors import ComeError
from come.files import size_of
from come.serving import limits
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
    allowed = limits.current()
    if not allowed.own_files:
        raise ComeError("Texts of your own are not offered here.", "Choose a known one.")
    allowed.check("bytes of a text", len(content), allowed.upload_bytes)
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
    if is_new:
        _make_room(path.parent, allowed.text_bytes)
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


def _make_room(newest: Path, most: int) -> None:
    """Remove texts that were uploaded longest ago, beyond so many bytes; runs that read them fail then."""
    folders = sorted(newest.parent.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    total = 0
    for folder in folders:
        total += size_of(folder)
        if total > most and folder != newest:
            shutil.rmtree(folder, ignore_errors=True)


def _forget(path: Path) -> None:
    path.unlink(missing_ok=True)
    with suppress(OSError):  # the same bytes may be there under another name
        path.parent.rmdir()
