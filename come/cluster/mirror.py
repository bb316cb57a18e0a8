"""Keeping a run's directory the same in two places: another machine's folder, or the URL of one (fsspec)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from come.errors import ComeError
from come.files import disk_faults, replace, written_whole
from come.runs.store import CANCEL_REQUEST, STOP_REQUEST

CHUNK = 16 << 20  # bytes at a time
LAST = "state.json"  # says that the others are there
REQUESTS = (CANCEL_REQUEST, STOP_REQUEST)  # come from the user's side only

Stamps = dict[str, str]
"""By a file's name in the directory, what differs once the file does."""


class Files(Protocol):
    """The files of a run in another place."""

    def stamps(self) -> Stamps:
        """The files that there are."""

    def read(self, name: str) -> Iterator[bytes]:
        """The content of one, in pieces; FileNotFoundError where it is gone by now."""


def stamps_of(folder: Path) -> Stamps:
    """The files of a directory, but for requests and what is being written."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")) or name in REQUESTS:
            continue
        try:
            about = path.stat()
        except FileNotFoundError:  # it has just gone
            continue
        if path.is_file():
            found[name] = f"{about.st_size}-{about.st_mtime_ns}"
    return found


def read_file(path: Path) -> Iterator[bytes]:
    """A file in pieces."""
    with path.open("rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def fetch(there: Files, folder: Path, known: Stamps) -> None:
    """Make a directory the same as the files elsewhere, as far as they have changed.

    Args:
        there: the other place.
        folder: the directory; what it has and ``known`` does not name stays.
        known: the stamps at the last time, brought up to date.
    """
    now = there.stamps()
    for name in sorted(now, key=lambda name: (name == LAST, name)):
        if now[name] != known.get(name) and _fetch_one(there, name, folder / name):
            known[name] = now[name]
    for name in set(known) - set(now):
        (folder / name).unlink(missing_ok=True)
        del known[name]
    _drop_empty(folder)


def send(folder: Path, there: UrlFolder, known: Stamps) -> None:
    """Make the folder at a URL the same as a directory, as far as that has changed since ``known``."""
    now = stamps_of(folder)
    for name in sorted(now, key=lambda name: (name == LAST, name)):
        if now[name] != known.get(name):
            there.write(name, folder / name)
            known[name] = now[name]
    for name in set(known) - set(now):
        there.remove(name)
        del known[name]


class UrlFolder:
    """A folder at a URL, by fsspec: s3://, gs://, file://, and whatever else has a driver installed.

    Raises:
        ComeError: no driver is installed for the URL, or the folder cannot be read or written.
    """

    def __init__(self, url: str) -> None:
        import fsspec

        self.url = url
        with self._faults():
            self.files, self.root = fsspec.core.url_to_fs(url)

    def stamps(self) -> Stamps:
        """The files that there are."""
        with self._faults():
            self.files.invalidate_cache()
            try:
                listed: dict[str, Any] = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
            return {self._name(path): repr(sorted(about.items(), key=repr)) for path, about in listed.items()}

    def read(self, name: str) -> Iterator[bytes]:
        """The content of a file, in pieces."""
        with self._faults(), self.files.open(f"{self.root}/{name}", "rb") as file:
            while piece := file.read(CHUNK):
                yield piece

    def write(self, name: str, path: Path) -> None:
        """Put a local file there; one that is gone by now is left out."""
        if not path.is_file():
            return
        with self._faults():
            target = f"{self.root}/{name}"
            self.files.makedirs(target.rpartition("/")[0], exist_ok=True)
            self.files.put_file(str(path), target)

    def remove(self, name: str) -> None:
        """Remove a file; none is fine."""
        with self._faults():
            if self.files.exists(f"{self.root}/{name}"):
                self.files.rm_file(f"{self.root}/{name}")

    def _name(self, path: str) -> str:
        return path[path.index(self.root) + len(self.root) :].lstrip("/")

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except (ImportError, ValueError) as error:
            raise ComeError(f"Files cannot be kept at {self.url}: {error}.", "Install what it takes.") from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise ComeError(
                f"Files cannot be kept at {self.url}: {reason}.", "Check the address, and who may write there."
            ) from error


def _fetch_one(there: Files, name: str, target: Path) -> bool:
    """Take over one file; False where it was in the middle of being written."""
    try:
        if name.endswith(".json"):
            text = b"".join(there.read(name)).decode()
            json.loads(text)
            with disk_faults(target.parent):
                target.parent.mkdir(parents=True, exist_ok=True)
            replace(target, text)
            return True
        with disk_faults(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as temporary, temporary.open("wb") as file:
            for piece in there.read(name):
                file.write(piece)
    except (FileNotFoundError, ValueError):
        return False
    return True


def _drop_empty(folder: Path) -> None:
    """Remove folders whose last file has gone."""
    for path in folder.iterdir():
        if path.is_dir() and not path.name.startswith(".") and not any(each.is_file() for each in path.rglob("*")):
            shutil.rmtree(path, ignore_errors=True)
