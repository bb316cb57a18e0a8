"""Files that another process may read at any moment: replaced whole, appended to by the line, locked."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from come import reading
from come.errors import ComeError
from come.numbers import LARGEST_WHOLE, is_number

HALF_MADE = ".new-"  # what folders are called until they are whole


def replace(path: Path, text: str, mode: int = 0o644) -> None:
    """Give a file a new content at once: a reader sees the old text or the new, never a part.

    Args:
        path: the file.
        text: its content.
        mode: its permissions.

    Raises:
        ComeError: the disk is full or the folder may not be written; the old file is still there.
    """
    with disk_faults(path.parent), replacing(path, mode) as temporary:
        temporary.write_text(text, encoding="utf-8")


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Like ``replacing``, for whom one sentence about the disk will do.

    Raises:
        ComeError: the disk is full or the folder may not be written.
    """
    with disk_faults(path.parent), replacing(path) as temporary:
        yield temporary


@contextmanager
def replacing(path: Path, mode: int = 0o644) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; on disk, it takes the name at the end, and goes if anything fails.

    A reader, or a crash, finds the old content or the new, never a part.

    Raises:
        OSError: the folder may not be written to, or the disk is full.
    """
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(mode)  # until here it is the owner's alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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
    # What is half made has a hidden name that nobody knows.
    folder = next((path.parent for path in (folder, *folder.parents) if path.name.startswith(HALF_MADE)), folder)
    # safetensors reports the system's errors in words of its own.
    if number == errno.EFBIG or "File too large" in str(error):
        return ComeError(f"A file in {folder} would be larger than is allowed here.", "Raise the limit (ulimit -f).")
    if number in (errno.ENOSPC, errno.EDQUOT) or "No space left on device" in str(error):
        return ComeError(f"The disk of {folder} is full.", "Free some space, or choose another folder.")
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return ComeError(f"{folder} may not be written to.", "Check its permissions, or choose another folder.")
    if "No usable temporary directory" in str(error):
        what = "There is no folder for temporary files that may be written to."
        return ComeError(what, "Name one in TMPDIR, or raise the limit of a file's size (ulimit -f).")
    if number in (errno.ENAMETOOLONG, errno.ENOENT, errno.EINVAL):
        return ComeError(f"{folder} cannot be made.", "Choose another folder.")
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
    """The JSON lines of a file; a torn one is left out, and no file is no lines.

    Raises:
        ComeError: it is no regular file, or may not be read.
    """
    try:
        lines = reading.tail_of(path, reading.LARGEST).splitlines()
    except FileNotFoundError:
        return []
    values = (_parsed(line) for line in lines)
    return [value for value in values if isinstance(value, dict)]


def new_lines(path: Path, seen: int) -> tuple[list[dict[str, Any]], int]:
    """The whole JSON lines of a file after its first ``seen`` bytes, and how many bytes that makes."""
    try:
        with reading.opened(path) as file:
            file.seek(seen)
            new = file.read()
    except FileNotFoundError:
        return [], seen
    new = new[: new.rfind(b"\n") + 1]
    values = (_parsed(line) for line in new.splitlines())
    return [value for value in values if isinstance(value, dict)], seen + len(new)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock file among processes and threads; the system lets go of it when the process ends, however it ends.

    It is flock(2), which on NFS reaches other hosts only where client and server both support it. The file stays.

    Raises:
        ComeError: its folder is not there, or it cannot be locked.
    """
    if not path.parent.is_dir():  # which the lock would make anew
        raise ComeError(f"{path.parent} is not there any more.")
    lock = FileLock(path)
    try:
        lock.acquire()
    except (OSError, ValueError, RuntimeError) as error:
        raise disk_sentence(error, path.parent) or reading.unreadable(path, "it cannot be locked") from error
    try:
        with disk_faults(path.parent):
            yield
    finally:
        lock.release()


@contextmanager
def locked_if_free(path: Path, patience: float = 0.0) -> Iterator[bool]:
    """Like ``locked``, but waiting for no longer than ``patience`` seconds: says whether it was had."""
    lock = FileLock(path, timeout=patience)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file, this one included. Whoever takes it waits out this look (``patience``)."""
    try:
        if not path.is_file():
            return False
        with locked_if_free(path) as free:
            return not free
    except OSError:
        return False


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it, also what may not be looked into.

    Raises:
        OSError: something in it belongs to somebody else.
    """
    try:
        shutil.rmtree(folder)
    except PermissionError:
        os.chmod(folder, 0o700)
        for where, folders, _ in os.walk(folder):  # the upper ones first
            for path in (os.path.join(where, name) for name in folders):
                if not os.path.islink(path):
                    os.chmod(path, 0o700)
        shutil.rmtree(folder)


def size_of(folder: Path) -> int:
    """What a folder takes on disk, in bytes; none takes nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it went away meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def _parsed(line: bytes) -> Any:
    try:
        return reading.values_in(line, "a line", not_finite_is_none=True)
    except ComeError:
        return None


def human_bytes(count: float) -> str:
    """1536 -> "1.5 KiB"; binary units, as memory is counted."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


# An absolute path, or one from the home folder, of two names or more; no web address, and no fraction.
_PATH = re.compile(r"(?<![\w:/.<])(?:~|\.{1,2})?/(?:[^\s/'\"`,;:()<>]+/)+([^\s/'\"`,;:()<>]*)")


def last_names(text: str) -> str:
    """A text in which each path is cut to its last name, for who is not to know how a machine's folders are named."""
    return _PATH.sub(r"…/\1", text)


_SIZE = re.compile(r"([0-9]{1,16}(?:\.[0-9]{0,16})?) ?(?:([kmgt]?)(i?)b)?", re.IGNORECASE)


def parse_bytes(size: str | int) -> int:
    """1.5KiB -> 1536, 200MB -> 200,000,000; a number alone is bytes, and a part of a byte is left out.

    Raises:
        ComeError: it is no size, or none above 0.
    """
    found = _SIZE.fullmatch(size.strip()) if isinstance(size, str) else None
    if found:
        number, prefix, binary = found.groups(default="")
        size = int(Decimal(number) * (1024 if binary else 1000) ** " kmgt".index(prefix.lower() or " "))
    if not is_number(size, whole=True) or not 0 < int(size) <= LARGEST_WHOLE:
        raise ComeError(f"{str(size)[:40]!r} is no size.", "Write it like 250MiB, 200MB or 1.5GiB.")
    return int(size)
