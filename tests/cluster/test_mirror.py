"""Keeping a directory the same as a folder at a URL."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from come.cluster.mirror import Stamps, UrlFolder, fetch, send, stamps_of
from come.errors import ComeError


@pytest.fixture(params=["memory", "file"])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> UrlFolder:
    name = uuid.uuid4().hex
    return UrlFolder(f"memory://runs/{name}" if request.param == "memory" else f"file://{tmp_path}/there/{name}")


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


def test_what_is_sent_and_fetched_is_the_same(there: UrlFolder, run: Path, tmp_path: Path) -> None:
    send(run, there, {})
    copy = tmp_path / "copy"
    copy.mkdir()
    fetch(there, copy, {})
    assert contents(copy) == contents(run)
    assert set(contents(copy)) == {"state.json", "events.jsonl", "model/weights.safetensors"}


def test_only_what_changed_goes(there: UrlFolder, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: Stamps = {}
    fetched: Stamps = {}
    copy = tmp_path / "copy"
    copy.mkdir()
    send(run, there, sent)
    fetch(there, copy, fetched)
    went: list[str] = []
    put, read = UrlFolder.write, UrlFolder.read
    monkeypatch.setattr(UrlFolder, "write", lambda self, name, path: (went.append(f"> {name}"), put(self, name, path)))
    monkeypatch.setattr(UrlFolder, "read", lambda self, name: (went.append(f"< {name}"), read(self, name))[1])
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


def test_what_is_gone_goes_there_too(there: UrlFolder, run: Path, tmp_path: Path) -> None:
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


def test_nothing_there_is_no_files(there: UrlFolder) -> None:
    assert there.stamps() == {}


def test_a_file_in_the_middle_of_being_written_waits(tmp_path: Path) -> None:
    class Torn:
        text = '{"status": "runn'

        def stamps(self) -> Stamps:
            return {"state.json": str(len(self.text)), "gone.txt": "1"}

        def read(self, name: str) -> Iterator[bytes]:
            if name == "gone.txt":
                raise FileNotFoundError(name)
            yield self.text.encode()

    (tmp_path / "state.json").write_text('{"status": "queued"}')
    torn, known = Torn(), Stamps()
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
        send(run, UrlFolder(url), {})
