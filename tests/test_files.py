from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from come import files
from come.errors import ComeError


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    files.replace(path, "old")
    files.replace(path, "new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.json"
    files.replace(path, "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ComeError, match="is full"):
        files.replace(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_line_is_left_out_and_the_next_one_stands_alone(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    files.append_line(path, {"step": 1})
    with path.open("a") as file:
        file.write('{"step": ')  # killed while writing
    assert files.read_lines(path) == [{"step": 1}]
    files.end_line(path)
    files.append_line(path, {"step": 2})
    assert files.read_lines(path) == [{"step": 1}, {"step": 2}]


def test_no_file_is_no_lines(tmp_path: Path) -> None:
    files.end_line(tmp_path / "none")
    assert files.read_lines(tmp_path / "none") == []


def test_a_lock_that_is_held_is_not_had(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with files.locked_if_free(path) as first, files.locked_if_free(path) as second:
        assert (first, second) == (True, False)
    with files.locked_if_free(path) as again:
        assert again


def test_a_killed_holder_lets_go_of_its_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = "import sys; from come import files, settings\nwith files.locked(settings.home()): input(print(flush=True))"
    environment = {**os.environ, "COME_HOME": str(path)}
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=environment) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        with files.locked_if_free(path) as had:
            assert not had
        holder.kill()
    with files.locked(path):
        assert path.exists()


def test_a_file_may_be_the_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for mode in (0o600, 0o644):
        files.replace(path, "text", mode=mode)
        assert stat.S_IMODE(path.stat().st_mode) == mode
