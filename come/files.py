"""Files that another process may read at any moment: replaced whole, appended to by the line, locked."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from come import atomic
from come.errors import ComeError


def replace(path: Path, text: str) -> None:
    """Give a file a new content at once: a reader sees the old text or the new, never a part.

    Raises:
        ComeError: the disk is full or the folder may not be written; the old file is still there.
    """
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to (``come.atomic.written_whole``).

    Raises:
        ComeError: the disk is full or the folder may not be written.
    """
    with disk_faults(path.parent), atomic.written_whole(path) as temporary:
        yield temporary


@contextmanager
def disk_faults(folder: Path) -> Iterator[None]:
    """Turns what the disk refuses into one sentence."""
    try:
        yield
    except OSError as error:
        sentence = disk_sentence(error, folder)
        if sentence is None:
            raise
        raise sentence from error


def disk_sentence(error: BaseException, folder: Path) -> ComeError | None:
    """What to tell the user of an error of the disk; None where it is another error."""
    number = error.errno if isinstance(error, OSError) else None
    # safetensors reports the system's errors in words of its own.
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
        return ComeError(f"The disk of {folder} is full.", "Free some space, or choose another folder with --runs.")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ComeError(f"{folder} may not be written to.", "Check its permissions, or choose another folder.")
    if number in (errno.ENOTDIR, errno.EEXIST):
        return ComeError(f"{folder} is not a folder.", "Choose another folder.")
    return None


def append_line(path: Path, values: dict[str, Any]) -> None:
    """Add one JSON line to the end of a file.

    Raises:
        ComeError: the disk is full.
    """
    line = json.dumps(values, ensure_ascii=False)
    with disk_faults(path.parent), path.open("ab") as file:
        file.write(f"{line}\n".encode())


def end_line(path: Path) -> None:
    """Close a last line that a killed writer left torn, so that the next one starts on its own."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
            file.write(b"\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON lines of a file; a torn one is left out, and no file is no lines."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    values = (_parsed(line) for line in lines)
    return [value for value in values if isinstance(value, dict)]


def new_lines(path: Path, seen: int) -> tuple[list[dict[str, Any]], int]:
    """The whole JSON lines of a file after its first ``seen`` bytes, and how many bytes that makes."""
    if not path.exists():
        return [], seen
    with path.open("rb") as file:
        file.seek(seen)
        new = file.read()
    new = new[: new.rfind(b"\n") + 1]
    values = (_parsed(line) for line in new.splitlines())
    return [value for value in values if isinstance(value, dict)], seen + len(new)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file among processes; the system lets go of it when the process ends, however it ends."""
    with disk_faults(path.parent), path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Like ``locked``, but without waiting: says whether it was had."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None
