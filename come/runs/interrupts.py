"""A signal to end the work, which is heeded between two lines of it, but not amid the import of a module.

A module whose import was interrupted stays half there, so that whatever the process does next would fail by it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

TRY_AGAIN = 0.05  # seconds


@contextmanager
def termination_interrupts() -> Iterator[None]:
    """Within, SIGTERM raises KeyboardInterrupt, as Ctrl-C does (signals reach the main thread only)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not _imports(frame):
            raise KeyboardInterrupt
        later = threading.Timer(TRY_AGAIN, again, args=(number,))
        later.daemon = True
        later.start()

    def again(number: int) -> None:
        if signal.getsignal(number) is interrupt:  # not where this work has ended and another has begun
            os.kill(os.getpid(), number)

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _imports(frame: FrameType | None) -> bool:
    """Whether the line is one of a module that is being imported, however deep."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
