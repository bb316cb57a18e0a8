from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@pytest.mark.parametrize(
    ("size", "count"),
    [
        ("250MiB", 250 * 2**20),
        ("200MB", 200_000_000),
        ("1.5GiB", 3 * 2**29),
        ("1.5 kib", 1536),
        (" 2 GB ", 2 * 10**9),
        ("0.1KB", 100),
        ("1.0009kb", 1000),
        ("512", 512),
        ("7B", 7),
        (7, 7),
        ("900TB", 9 * 10**14),
    ],
)
def test_sizes_are_read_as_they_are_written(size: str | int, count: int) -> None:
    assert files.parse_bytes(size) == count


@pytest.mark.parametrize(
    "size",
    [
        *(
            "",
            "MiB",
            "200M",
            "-1MB",
            "0",
            "0.5",
            "1e6",
            "1,5GB",
            "1 000MB",
            "nan",
            "\u0661MB",
            "2EiB",
            "9" * 30,
            "1\nMB",
        ),
        *(0, -1, True, 1.5, None, "9000TB"),
    ],
)
def test_what_is_no_size_is_refused(size: object) -> None:
    with pytest.raises(ComeError, match="is no size"):
        files.parse_bytes(size)  # type: ignore[arg-type]


@given(st.integers(1, 10**12))
def test_a_size_as_it_is_told_is_read_as_about_that(count: int) -> None:
    assert files.parse_bytes(files.human_bytes(count)) == pytest.approx(count, rel=0.06)


def test_what_is_half_made_is_not_named(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for folder in (tmp_path / "runs", tmp_path / "runs" / ".new-abc", tmp_path / "runs" / ".new-abc" / "run"):
        told = files.disk_sentence(full, folder)
        assert told is not None and told.what == f"The disk of {tmp_path / 'runs'} is full."
