"""Keeping a directory the same as a folder at a URL, or on a node."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from come.cluster.sync import NodeFiles, NodeLost, RemoteFolder, Stamps, fetch, send, stamps_of
from come.errors import ComeError


class Rays:
    """As much of Ray as makes an actor: here."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayTaskError(RayError):
            pass

    lost = False

    def remote(self, kind: type) -> Rays:
        self.kind = kind
        return self

    def options(self, **needs: Any) -> SimpleNamespace:
        assert needs["num_cpus"] == 0 and needs["scheduling_strategy"].node_id == "ab" * 28
        actor = self.kind()
        methods = {name: SimpleNamespace(remote=partial(self.call, getattr(actor, name))) for name in ("stamps", "do")}
        return SimpleNamespace(remote=lambda: SimpleNamespace(**methods))

    def call(self, method: Callable[..., Any], *arguments: Any, **options: Any) -> Callable[[], Any]:
        return lambda: method(*arguments, **options)

    def get(self, result: Callable[[], Any], timeout: float) -> Any:
        if self.lost:
            raise self.exceptions.RayError("the node died")
        return result()


@pytest.fixture(params=["memory", "file", "node"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> RemoteFolder:
    name = uuid.uuid4().hex
    if request.param == "node":
        pytest.importorskip("ray")
        return RemoteFolder(f"{tmp_path}/there/{name}", NodeFiles(Rays(), "ab" * 28))
    return RemoteFolder(f"memory://runs/{name}" if request.param == "memory" else f"file://{tmp_path}/there/{name}")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    (folder / "state.json").write_text('{"status": "running"}')
    (folder / "events.jsonl").write_text('{"stage": "load"}\n')
    (folder / "model" / "weights.safetensors").write_bytes(bytes(range(256)) * 10)
    (folder / ".lock").touch()
    (folder / ".plan.json-x1").write_text("half")
    (folder / "cancel").touch()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in stamps_of(folder)}


def test_what_is_sent_and_fetched_is_the_same(there: RemoteFolder, run: Path, tmp_path: Path) -> None:
    send(run, there, {})
    copy = tmp_path / "copy"
    copy.mkdir()
    fetch(there, copy, {})
    assert contents(copy) == contents(run)
    assert set(contents(copy)) == {"state.json", "events.jsonl", "model/weights.safetensors"}


def test_only_what_changed_goes(
    there: RemoteFolder, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: Stamps = {}
    fetched: Stamps = {}
    copy = tmp_path / "copy"
    copy.mkdir()
    send(run, there, sent)
    fetch(there, copy, fetched)
    went: list[str] = []
    put, read = RemoteFolder.write, RemoteFolder.read
    monkeypatch.setattr(
        RemoteFolder, "write", lambda self, name, path: (went.append(f"> {name}"), put(self, name, path))
    )
    monkeypatch.setattr(
        RemoteFolder, "read", lambda self, name, start=0: (went.append(f"< {name}"), read(self, name, start))[1]
    )
    send(run, there, sent)
    fetch(there, copy, fetched)
    assert went == []
    with (run / "events.jsonl").open("a") as file:
        file.write('{"stage": "done"}\n')
    os.utime(run / "state.json", ns=(1, 1))
    send(run, there, sent)
    fetch(there, copy, fetched)
    assert went[:2] == ["> events.jsonl", "> state.json"]  # the state last: it says that the rest is there
    assert contents(copy) == contents(run)


def test_what_is_gone_goes_there_too(there: RemoteFolder, run: Path, tmp_path: Path) -> None:
    sent: Stamps = {}
    fetched: Stamps = {}
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "mine.txt").write_text("stays")
    send(run, there, sent)
    fetch(there, copy, fetched)
    (run / "model" / "weights.safetensors").unlink()
    send(run, there, sent)
    fetch(there, copy, fetched)
    assert set(contents(copy)) == {"state.json", "events.jsonl", "mine.txt"}
    assert not (copy / "model").exists()


def test_events_are_added_and_what_is_there_is_not_read_again(
    there: RemoteFolder, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    known: Stamps = {}
    send(run, there, {})
    fetch(there, copy, known)
    node = (copy / "events.jsonl").stat().st_ino
    (run / "events.jsonl").write_text('{"stage": "load"}\n{"stage": "done"}\n')
    send(run, there, {})
    read, starts = RemoteFolder.read, {}
    monkeypatch.setattr(
        RemoteFolder, "read", lambda self, name, start=0: (starts.update({name: start}), read(self, name, start))[1]
    )
    fetch(there, copy, known)
    assert (copy / "events.jsonl").read_bytes() == (run / "events.jsonl").read_bytes()
    assert starts["events.jsonl"] == len('{"stage": "load"}\n') and (copy / "events.jsonl").stat().st_ino == node


def test_a_large_file_goes_in_pieces(
    there: RemoteFolder, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("come.cluster.sync.CHUNK", 1000)
    test_what_is_sent_and_fetched_is_the_same(there, run, tmp_path)
    assert [len(piece) for piece in there.read("model/weights.safetensors", 500)] == [1000, 1000, 60]


def test_a_node_that_is_gone_is_told_from_a_file_that_is(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    rays = Rays()
    there = RemoteFolder(str(tmp_path), NodeFiles(rays, "ab" * 28))
    with pytest.raises(FileNotFoundError):
        list(there.read("gone"))
    rays.lost = True
    with pytest.raises(NodeLost, match="the node died"):
        there.stamps()


def test_nothing_there_is_no_files(there: RemoteFolder) -> None:
    assert there.stamps() == {}


def test_a_file_in_the_middle_of_being_written_waits(tmp_path: Path) -> None:
    class Torn(RemoteFolder):
        text = '{"status": "runn'

        def stamps(self) -> Stamps:
            return {"state.json": str(len(self.text)), "gone.txt": "1"}

        def read(self, name: str, start: int = 0) -> Iterator[bytes]:
            if name == "gone.txt":
                raise FileNotFoundError(name)
            yield self.text.encode()

    (tmp_path / "state.json").write_text('{"status": "queued"}')
    torn, known = Torn("memory://torn"), Stamps()
    fetch(torn, tmp_path, known)
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "queued"} and known == {}
    torn.text = '{"status": "running"}'
    fetch(torn, tmp_path, known)
    assert json.loads((tmp_path / "state.json").read_text()) == {"status": "running"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.json"]


@pytest.mark.parametrize(
    ("url", "words"), [("nowhere://bucket/runs", "nowhere"), ("file:///proc/version/runs", "cannot be kept")]
)
def test_a_url_that_cannot_be_is_one_sentence(url: str, words: str, run: Path) -> None:
    with pytest.raises(ComeError, match=words):
        send(run, RemoteFolder(url), {})
