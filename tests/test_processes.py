"""Processes are told apart by their start, and outlive whoever starts them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from come import processes
from come.errors import ComeError


def test_a_living_process_is_known_again() -> None:
    me = os.getpid()
    assert processes.is_alive(me, processes.start_id(me))
    assert not processes.is_alive(me, "")
    *boot, started = processes.start_id(me).split()
    assert not processes.is_alive(me, " ".join([*boot, str(float(started) - 100)]))
    if boot:
        assert not processes.is_alive(me, f"another-boot {started}")


def test_an_ended_process_is_gone_even_before_it_is_collected() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        started, seconds = processes.start_id(child.pid), processes.started_at(child.pid)
        assert processes.is_alive(child.pid, started) and processes.was_started_at(child.pid, seconds)
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie until it is waited for
        assert processes.start_id(child.pid) == "" and not processes.is_alive(child.pid, started)
        assert not processes.was_started_at(child.pid, seconds)
    assert processes.start_id(child.pid) == "" and processes.started_at(child.pid) == 0


@pytest.mark.parametrize("name", ["a) Z 1 2 (", "with blanks"])
def test_the_name_of_a_program_misleads_nobody(name: str, tmp_path: Path) -> None:
    program = tmp_path / name
    program.symlink_to("/bin/cat")
    with subprocess.Popen([program], stdin=subprocess.PIPE) as child:
        ticks = processes.start_id(child.pid).split()[-1]
        assert abs(float(ticks) - float(processes.start_id(os.getpid()).split()[-1])) < 10**7
        assert processes.is_alive(child.pid, processes.start_id(child.pid))
        child.communicate()


def test_without_proc_the_clock_has_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_BOOT_ID", Path("/nowhere"))
    me = os.getpid()
    started = processes.start_id(me)
    assert float(started) == processes.started_at(me) and processes.is_alive(me, started)
    assert not processes.is_alive(me, repr(float(started) - 100))


def test_a_detached_process_finds_come_has_no_input_and_writes_to_its_log(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    child = processes.start_detached("come", "no-such-command", log=log)
    assert child.wait(60) == 2  # a user's error, so it found come and ran it
    assert child.args[1:] == ["-m", "come", "no-such-command"]  # type: ignore[index]
    assert log.read_text().startswith("before\n") and "no-such-command" in log.read_text()
    sleeping = processes.start_detached("timeit", "-n1", "-r1", "input()")
    ended = time.monotonic() + 60
    while sleeping.poll() is None and time.monotonic() < ended:
        time.sleep(0.02)
    assert sleeping.returncode == 1, "there is no input to wait for"
    with pytest.raises(ComeError, match="is not a folder"):
        processes.start_detached("come", log=log / "log.txt")
