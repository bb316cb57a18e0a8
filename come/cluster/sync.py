"""Carrying a run's files, as they change, between its directory and a folder elsewhere: a URL, or a node's own disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.files import disk_faults, replace, written_whole
from come.runs.run import CANCEL_REQUEST, STOP_REQUEST

CHUNK = 16 << 20  # bytes at a time
PATIENCE = 60.0  # seconds that a node has to answer
LAST = "state.json"  # goes last: it says that the others are there
APPENDED = "events.jsonl"  # only grows: what is new of it is added, all other files are replaced whole
REQUESTS = (CANCEL_REQUEST, STOP_REQUEST)  # come from the user's side only

Stamps = dict[str, str]
"""By a file's name in the directory, what differs once the file does."""


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


def fetch(there: RemoteFolder, folder: Path, known: Stamps) -> None:
    """Make a directory the same as the folder elsewhere, as far as that has changed.

    Args:
        there: the other place.
        folder: the directory; what it has and ``known`` does not name stays.
        known: the stamps at the last time, brought up to date.
    """
    now = {name: stamp for name, stamp in there.stamps().items() if name not in REQUESTS}
    if not now:
        return  # it is not there yet, or was changed at this very moment
    for name in sorted(now, key=lambda name: (name == LAST, name)):
        if now[name] != known.get(name) and _fetch_one(there, name, folder / name):
            known[name] = now[name]
    for name in set(known) - set(now):
        (folder / name).unlink(missing_ok=True)
        del known[name]
    for path in folder.iterdir():  # folders whose last file has gone
        if path.is_dir() and not path.name.startswith(".") and not any(each.is_file() for each in path.rglob("*")):
            shutil.rmtree(path, ignore_errors=True)


def send(folder: Path, there: RemoteFolder, known: Stamps) -> None:
    """Make the folder elsewhere the same as a directory, as far as that has changed since ``known``."""
    now = stamps_of(folder)
    for name in sorted(now, key=lambda name: (name == LAST, name)):
        if now[name] != known.get(name) and (folder / name).is_file():
            there.write(name, folder / name)
            known[name] = now[name]
    for name in set(known) - set(now):
        there.remove(name)
        del known[name]


class RemoteFolder:
    """A folder at a URL, by fsspec (s3://, gs://, file://, whatever has a driver installed), or on a node's own disk.

    Raises:
        ComeError: no driver is installed for the URL, or the folder cannot be read or written.
        NodeLost: the node does not answer.
    """

    def __init__(self, url: str, files: NodeFiles | None = None) -> None:
        import fsspec

        self.url = url
        self.files: Any = files
        self.root: str = url
        with self._faults():
            if files is None:
                self.files, self.root = fsspec.core.url_to_fs(url)

    def stamps(self) -> Stamps:
        """The files that there are, requests included."""
        with self._faults():
            self.files.invalidate_cache()
            try:
                listed: dict[str, Any] = self.files.find(self.root, detail=True)
            except FileNotFoundError:
                return {}
            return {self._name(path): repr(sorted(about.items(), key=repr)) for path, about in listed.items()}

    def read(self, name: str, start: int = 0) -> Iterator[bytes]:
        """The content of a file from a byte on, in pieces; FileNotFoundError where it is gone by now."""
        with self._faults():
            path = f"{self.root}/{name}"
            for at in range(start, self.files.info(path)["size"], CHUNK):
                yield self.files.cat_file(path, start=at, end=at + CHUNK)

    def write(self, name: str, path: Path) -> None:
        """Put a local file there."""
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


class NodeLost(Exception):
    """A node of the cluster, or all of it, does not answer."""


class NodeFiles:
    """One node's own disk as fsspec's file system, by an actor there: Ray's jobs themselves bring back no files."""

    def __init__(self, ray: Any, node_id: str) -> None:
        """Take Ray, connected, and the node."""
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        on_node = NodeAffinitySchedulingStrategy(node_id, soft=False)
        self._ray = ray
        self._disk = ray.remote(_Disk).options(num_cpus=0, scheduling_strategy=on_node).remote()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return partial(self._there, "do", name)

    def invalidate_cache(self) -> None:
        """Nothing is cached."""

    def find(self, root: str, detail: bool = True) -> dict[str, Any]:
        """The files in a folder, but for what is being written."""
        return {f"{root}/{name}": {"stamp": stamp} for name, stamp in self._there("stamps", Path(root)).items()}

    def put_file(self, here: str, there: str) -> None:
        """Put a local file there: it appears when it is whole."""
        growing = f"{there.rpartition('/')[0]}/.arriving"
        self.pipe_file(growing, Path(here).read_bytes())
        self.mv(growing, there)

    def _there(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return self._ray.get(getattr(self._disk, method).remote(*arguments, **options), timeout=PATIENCE)
        except (self._ray.exceptions.RayError, ConnectionError) as error:
            if isinstance(error, OSError) and isinstance(error, self._ray.exceptions.RayTaskError):
                raise
            raise NodeLost(str(error)) from error


class _Disk:
    """What an actor does on its node's disk."""

    def stamps(self, folder: Path) -> Stamps:
        return stamps_of(folder)

    def do(self, method: str, *arguments: Any, **options: Any) -> Any:
        import fsspec

        return getattr(fsspec.filesystem("file"), method)(*arguments, **options)


def _fetch_one(there: RemoteFolder, name: str, target: Path) -> bool:
    """Take over one file; False where it was in the middle of being written."""
    with disk_faults(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    try:
        if name == APPENDED:
            with disk_faults(target.parent), target.open("ab") as file:
                for piece in there.read(name, file.tell()):
                    file.write(piece)
        elif name.endswith(".json"):
            text = b"".join(there.read(name)).decode()
            json.loads(text)
            replace(target, text)
        else:
            with written_whole(target) as temporary, temporary.open("wb") as file:
                for piece in there.read(name):
                    file.write(piece)
    except (FileNotFoundError, ValueError):
        return False
    return True
