from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from come.errors import ComeError
from come.request import RunConfig
from come.runs import analysis_for, create, delete, execute, find, list_runs, resume
from come.runs.state import identity
from come.settings import runs_dir
from tests.runs.conftest import Create

ME = identity(os.getpid())


def test_a_new_run_is_a_directory_that_waits(new_run: Create, asked: dict[str, Any]) -> None:
    run = new_run(name="first")
    assert re.fullmatch(r"\d{8}-\d{6}-come-4-\w{4}", run.id)
    assert run.config == RunConfig(**asked, name="first")
    state = run.state()
    assert (state.status, state.pid) == ("queued", None)
    assert abs(state.created - time.time()) < 3600
    assert (run.events(), run.plan(), run.results(), run.measurement(), run.log()) == ([], None, {}, None, "")
    assert run.size_bytes() > 0


@pytest.mark.parametrize(
    "fault",
    [
        {"model": "no-such-model"},
        {"target_layers": 0},
        {"target_layers": 7},
        {"target_layers": None},
        {"target_layers": None, "sparsity": 0.99},
        {"target_layers": None, "options": {"windows": [[1, 2], [2, 3]]}},
        {"options": {"windows": [[1, 2]]}},
        {"options": {"spam": 1}},
        {"method": "no-such-method"},
        {"text": "no-such-text"},
        {"text": "no-such-file.txt"},
        {"evaluation_text": "no-such-file.txt"},
        {"kind": "analyze", "span": 7},
    ],
    ids=str,
)
def test_a_bad_request_leaves_nothing(fault: dict[str, Any], new_run: Create) -> None:
    with pytest.raises(ComeError):
        new_run(**fault)
    assert not runs_dir().exists()


@pytest.mark.parametrize("content", [b"", b"\0\1\2\xff"], ids=["empty", "binary"])
def test_a_text_that_is_none_leaves_nothing(content: bytes, new_run: Create, tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_bytes(content)
    with pytest.raises(ComeError):
        new_run(text=str(path))
    assert not runs_dir().exists()


def test_runs_in_a_place_that_is_no_folder(new_run: Create, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "file"))
    with pytest.raises(ComeError, match="not a folder"):
        new_run()
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "file" / "below"))
    with pytest.raises(ComeError, match="not a folder"):
        new_run()


def test_a_run_alone_in_its_directory(asked: dict[str, Any], tmp_path: Path) -> None:
    run = create(RunConfig(**asked), folder=tmp_path / "alone")
    assert run.path == tmp_path / "alone"
    assert [path.name for path in tmp_path.iterdir()] == ["alone"]
    with pytest.raises(ComeError, match="not empty"):
        create(RunConfig(**asked), folder=tmp_path / "alone")


def test_finding_runs(new_run: Create) -> None:
    with pytest.raises(ComeError, match="no run"):
        find("2026")
    first, second = new_run(), new_run(method="shortgpt")
    assert {run.id for run in list_runs()} == {first.id, second.id}
    assert find(first.id) == first
    assert find(second.id[:-1]) == second
    with pytest.raises(ComeError, match="Several runs"):
        find(first.id[:4])
    with pytest.raises(ComeError, match=f"Did you mean .*{second.id}"):
        find(second.id.replace("shortgpt", "shortgtp"))
    with pytest.raises(ComeError, match="no run ''"):
        find("")


def test_runs_are_listed_newest_first_and_other_folders_are_not(new_run: Create) -> None:
    run = new_run()
    older = run.path.rename(run.path.with_name("20000101-000000-come-4-aaaa"))
    newest = new_run()
    (runs_dir() / "notes").mkdir()
    assert [each.path for each in list_runs()] == [newest.path, older]


def test_a_link_to_a_run_elsewhere_is_none_of_the_folder(new_run: Create, tmp_path: Path) -> None:
    run = new_run()
    elsewhere = run.path.rename(tmp_path / "elsewhere")
    (run.path.parent / "20260101-000000-come-4-link").symlink_to(elsewhere)
    assert list_runs(run.path.parent) == []
    with pytest.raises(ComeError, match="There is no run"):
        find("elsewhere", run.path.parent)


def test_delete(new_run: Create) -> None:
    run = new_run()
    run.update(status="running", **ME)
    with pytest.raises(ComeError, match="Cancel it first"):
        delete(run)
    run.update(status="done")
    delete(run)
    assert not run.path.exists()
    assert list_runs() == []


def test_a_process_that_is_gone_shows_as_interrupted(new_run: Create) -> None:
    run = new_run()
    ended = subprocess.Popen(["true"])
    name = identity(ended.pid)
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # ended, but a zombie until it is waited for
    for status in ("queued", "running"):
        run.update(status=status, **name)
        assert run.state().status == "interrupted"
    ended.wait()
    assert run.state().status == "interrupted"
    (run.path / "cancel").touch()
    assert run.state().status == "cancelled"


def test_a_number_that_another_process_got_is_not_the_run(new_run: Create) -> None:
    run = new_run()
    run.update(status="running", **ME)
    assert run.state().status == "running"
    *boot, started = str(ME["process_start_id"]).split()
    run.update(process_start_id=" ".join([*boot, str(float(started) - 100)]))
    assert run.state().status == "interrupted"


def test_states_of_older_versions_name_a_process_by_the_clock(new_run: Create) -> None:
    run = new_run()
    started = float(ME["process_started"])
    for apart, status in ((0, "running"), (30, "running"), (100, "interrupted")):
        run.update(status="running", **{**ME, "process_start_id": "", "process_started": started - apart})
        assert run.state().status == status
    told = json.loads((run.path / "state.json").read_text())
    del told["process_start_id"]  # as they wrote it
    (run.path / "state.json").write_text(json.dumps({**told, "process_started": started}))
    assert run.state().status == "running"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere a start is known by the clock alone")
@pytest.mark.parametrize("seconds", [-7200, 2, 7200])
def test_a_clock_that_is_set_ends_no_run(new_run: Create, monkeypatch: pytest.MonkeyPatch, seconds: int) -> None:
    run = new_run()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as worker:
        run.update(status="running", **identity(worker.pid))
        before = psutil.Process(worker.pid).create_time()
        boot_time = psutil._psplatform.boot_time
        monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: boot_time() + seconds)  # /proc/stat's btime
        assert psutil.Process(worker.pid).create_time() == pytest.approx(before + seconds, abs=1)
        assert run.state().status == "running"
        for act, words in (
            (delete, "Cancel it first"),
            (resume, "is running already"),
            (execute, "is running already"),
        ):
            with pytest.raises(ComeError, match=words):
                act(run)
        worker.communicate(b"\n")
    assert run.state().status == "interrupted"


def test_a_run_on_another_host_is_believed_by_its_heartbeat(new_run: Create) -> None:
    run = new_run()
    assert socket.gethostname() != "elsewhere"
    run.update(status="running", pid=1, host="elsewhere", heartbeat=time.time())
    assert run.state().status == "running"
    run.update(heartbeat=time.time() - 61)
    assert run.state().status == "interrupted"


def test_a_torn_state_is_told(new_run: Create) -> None:
    run = new_run()
    (run.path / "state.json").write_text("{")
    assert run.state().status == "unreadable"
    assert "state.json" in run.state().error


def test_analyses_are_found_again(new_run: Create, asked: dict[str, Any], tmp_path: Path) -> None:
    key = {name: asked[name] for name in ("model", "text", "n_tokens", "seq_len")}
    run = new_run(kind="analyze", target_layers=None, similarity=("cosine",))
    assert analysis_for(**key) is None
    execute(run)
    assert analysis_for(**key) == run
    assert analysis_for(**{**key, "n_tokens": 256}) is None
    assert analysis_for(**key, span=3) is None
    # A run elsewhere, by its own path or by its folder's.
    elsewhere = tmp_path / "elsewhere"
    run.path.parent.rename(elsewhere)
    assert analysis_for(**key) is None
    for place in (elsewhere, elsewhere / run.id):
        found = analysis_for(**key, also=(tmp_path / "missing", place))
        assert found is not None
        assert found.path == elsewhere / run.id
    # One of another version is passed over.
    config = json.loads((elsewhere / run.id / "config.json").read_text())
    (elsewhere / run.id / "config.json").write_text(json.dumps({**config, "new": 1}))
    assert analysis_for(**key, also=(elsewhere,)) is None
