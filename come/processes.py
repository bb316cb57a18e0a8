"""Processes of this host: starting one that outlives its parent, and telling whether one still lives.

A process id alone says little: the system gives it to another process later. What tells processes of one id apart is
when they started. Seconds since 1970 are no good for that, because they are computed from the system's clock, and move
when it is set. So where there is /proc it is the clock ticks from the boot to the start, with the id of that boot.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil

from come.files import disk_faults, is_locked, locked

_PROC = Path("/proc")
_BOOT_ID = _PROC / "sys/kernel/random/boot_id"
_STATE, _START_TICKS = 0, 19  # in /proc/PID/stat after the name: fields 3 and 22 of proc(5)
NICE = 10  # of processes that nobody waits for at a page
_PR_SET_PDEATHSIG = 1  # of prctl(2)
_LOOK_FOR_PARENT = 1.0  # seconds
_OWNER = ".owner"  # in a temporary folder: locked by its process
_SECONDS_TO_LOCK = 60.0  # after which one that is not locked was left behind
_SECONDS_APART = 2.0  # between two readings of one start where there is no /proc
_SECONDS_SET = 60.0  # how far the clock may have been set since a start was written down as a time


def start_id(pid: int) -> str:
    """What tells a process of this host from all that ever have its id: "BOOT-ID TICKS", or seconds without /proc.

    It is "" where no such process lives; a zombie, which has ended, does not.
    """
    if not _BOOT_ID.exists():
        started = started_at(pid)
        return repr(started) if started else ""
    try:
        # The name, in brackets, may hold blanks and brackets itself.
        fields = (_PROC / str(pid) / "stat").read_text("utf-8", errors="replace").rpartition(")")[2].split()
        return "" if fields[_STATE] in "XxZ" else f"{_BOOT_ID.read_text('ascii').strip()} {fields[_START_TICKS]}"
    except OSError:
        return ""


def started_at(pid: int) -> float:
    """When a living process of this host started, in unix seconds by the clock as it is set now; else 0."""
    try:
        process = psutil.Process(pid)
        return 0.0 if process.status() == psutil.STATUS_ZOMBIE else float(process.create_time())
    except psutil.Error:
        return 0.0


def is_alive(pid: int, started: str) -> bool:
    """Whether the process that had that ``start_id`` lives."""
    now = start_id(pid)
    if not started or not now:
        return False
    if " " in started or " " in now:
        return now == started
    try:
        return abs(float(now) - float(started)) < _SECONDS_APART
    except ValueError:  # a damaged file said so
        return False


def was_started_at(pid: int, seconds: float) -> bool:
    """Whether a process lives that started at about that time: all that files of older versions tell of one.

    The clock may have been set since, by a time server mostly, so a minute's difference is let pass.
    """
    started = started_at(pid)
    return bool(started) and abs(started - seconds) < _SECONDS_SET


def give_way() -> None:
    """Let others come first, at processors and disk: a page answers quickly while this process works. Call it once."""
    with suppress(psutil.Error, OSError, AttributeError):  # not every system has all of it
        os.nice(NICE)
        psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)


def die_with(parent: int) -> None:
    """Have this process end as soon as the one that started it has, however that ended.

    Linux does so by itself; elsewhere, and where the parent ended before this was asked for, a thread looks.

    Args:
        parent: the other's process id, as it knows it itself.
    """
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_FOR_PARENT)
        os._exit(1)

    threading.Thread(target=watch, name="dies-with-parent", daemon=True).start()


@contextmanager
def temporary_folder(prefix: str) -> Iterator[Path]:
    """A folder for as long as it is needed, in the system's place for such, which its process keeps locked.

    Those of processes that were killed, which could not remove theirs, go first.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):
            owner = left / _OWNER
            old = time.time() - owner.stat().st_mtime > _SECONDS_TO_LOCK
            if old and not is_locked(owner):
                shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with locked(folder / _OWNER):
            yield folder


def start_detached(module: str, *arguments: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """Run ``python -m module arguments`` in a session of its own, which outlives this process.

    Args:
        module: what to run; it finds the same ``come`` as this process, from whatever folder.
        arguments: of the command line.
        log: the file that its output is added to; by default it goes nowhere.

    Raises:
        ComeError: the log cannot be written.
    """
    with ExitStack() as opened:
        output: IO[bytes] | int = subprocess.DEVNULL
        if log is not None:
            opened.enter_context(disk_faults(log.parent))
            output = opened.enter_context(log.open("ab"))
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    # Collects the ended child, which would stay behind as a zombie.
    threading.Thread(target=child.wait, name=f"wait-{child.pid}", daemon=True).start()
    return child


def _environment() -> dict[str, str]:
    """This process's environment, in which the child finds the same come, from whatever folder it is started."""
    root = str(Path(__file__).parents[1])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def give_back_freed_memory() -> None:
    """Hand to the system what this process has freed: GNU's C library keeps most of it, for the next time."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
