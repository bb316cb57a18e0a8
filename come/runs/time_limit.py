"""How long a run may work, where that is bounded: it is asked to end as by Cancel, and ended if it does not."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from types import TracebackType

from come.errors import ComeError
from come.numbers import duration
from come.runs.run import CANCEL_REQUEST, Run
from come.runs.state import State

LOOK_AGAIN = 1.0  # seconds
PATIENCE = 10.0  # seconds to end by itself
LEAST = 30.0  # seconds: with less than that left there is no use in going on


class TimeLimit:
    """Keeps the time that a run works, as a context manager around its work, and ends it when that is used up.

    What it had come to stays, and ``reason`` says why it ended. A run without a bound is let alone.
    """

    def __init__(self, run: Run) -> None:
        state = run.written_state()
        self.run = run
        self.reason: ComeError | None = None
        self._most = state.seconds_at_most
        self._before = state.seconds_worked
        self._began = 0.0
        self._over = threading.Event()
        self._in_main = threading.current_thread() is threading.main_thread()
        self._thread = threading.Thread(target=self._watch, name="time-limit", daemon=True)

    def __enter__(self) -> TimeLimit:
        self._began = time.monotonic()
        if self._most is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self._most is not None:
            self._thread.join()
            self._write()

    def _watch(self) -> None:
        assert self._most is not None
        while not self._over.wait(LOOK_AGAIN):
            self._write()
            if self._worked() >= self._most:
                self.reason = too_long(self._most)
                self._ask_to_end()
                if not self._over.wait(PATIENCE):
                    self._end()
                return

    def _worked(self) -> float:
        return self._before + time.monotonic() - self._began

    def _write(self) -> None:
        with suppress(ComeError, OSError):
            self.run.update(seconds_worked=self._worked())

    def _ask_to_end(self) -> None:
        with suppress(OSError):
            (self.run.path / CANCEL_REQUEST).touch()
        if self._in_main:  # whose handler raises KeyboardInterrupt, as for Cancel
            os.kill(os.getpid(), signal.SIGTERM)

    def _end(self) -> None:
        """The work does not let itself be interrupted: write the last word for it and end the process, with children.

        Only where the process is the run's own, started for it; runs that wait in it are taken up by Resume.
        """
        if not self._in_main or os.getpgid(0) != os.getpid():
            return
        with suppress(ComeError, OSError):
            words = too_long(self._most or 0.0)
            self.run.update(status="cancelled", error=words.what, hint=words.hint, finished=time.time())
        os.killpg(os.getpid(), signal.SIGKILL)


def too_long(most: float) -> ComeError:
    """Why a run was stopped that had worked so many seconds."""
    return ComeError(
        f"The run was stopped after {duration(most)}, which is as long as a run may take here.",
        "What it had come to is kept. Run CoMe Lab on a machine of your own to go on.",
    )


def has_time_left(state: State) -> bool:
    """Whether a run may go on working."""
    return state.seconds_at_most is None or state.seconds_at_most - state.seconds_worked >= LEAST


def check_time_left(state: State) -> None:
    """Refuse to go on with a run that has worked as long as it may.

    Raises:
        ComeError: it has.
    """
    if not has_time_left(state):
        raise too_long(state.seconds_at_most or 0.0)
