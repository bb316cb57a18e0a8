"""Something asked of the resident process in the background: its thread writes here, the page reads and redraws."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Self

from come.errors import ComeError
from come.events import Event
from come.serving.cancellation import Cancelled
from come.serving.resident.connection import LiveFault

# A page that is shown looks at its job a few times a second; browsers slow down tabs in the background.
SECONDS_UNSEEN = 15.0
PROCESS_FAULT = "The model process met a fault of ours; its log has the details."
OUR_FAULT = "That met a fault of ours. Ask again; if it stays, the server's log has the details."


class Job:
    """One question and how far it is.

    Attributes:
        key: what was asked, so that the same is not asked twice.
        status: "waiting" for the model, "working", "done", "stopped" or "failed".
        event: what was last reported. news: the same, or what is done now, in words.
        outcome: what the work returned.
        problem: why it failed, as a sentence.
        began: when, as time.monotonic().
    """

    def __init__(self, key: str = "", *, watched: bool = False) -> None:
        """`watched`: it ends when no page has called :meth:`look` for a while."""
        self.key = key
        self.status = "waiting"
        self.event: Event | None = None
        self.news = ""
        self.outcome: Any = None
        self.problem = ""
        self.began = self._seen = time.monotonic()
        self._watched = watched
        self._lock = threading.Lock()
        self._ended = threading.Event()

    @property
    def active(self) -> bool:
        """Whether it is still at work."""
        return self.status in ("waiting", "working")

    def begin(self, work: Callable[[], Any]) -> Self:
        """Do the work in a thread of its own. It is told to give up through :meth:`go_on`."""
        threading.Thread(target=self._do, args=(work,), name="page-job", daemon=True).start()
        return self

    def look(self) -> None:
        """Say that somebody is watching."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Give up; what came so far stays."""
        self._end("stopped")

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, but not longer; whether it has."""
        return self._ended.wait(seconds)

    def go_on(self) -> None:
        """Called by the work whenever it can end.

        Raises:
            Cancelled: it was stopped, or the page was left.
        """
        if not self.active or (self._watched and time.monotonic() - self._seen > SECONDS_UNSEEN):
            raise Cancelled

    def told(self, event: Event) -> None:
        """Progress of the resident process; also a moment to end at."""
        self.go_on()
        self.event = event
        self.news = event.message or event.stage

    def _do(self, work: Callable[[], Any]) -> None:
        try:
            outcome = work()
            with self._lock:
                self.outcome = outcome if self.active else None
            self._end("done")
        except Cancelled:
            self._end("stopped")
        except ComeError as error:
            self._end("failed", str(error))
        except LiveFault as fault:
            logging.getLogger("come.app").error("The model process: %s", fault)
            self._end("failed", PROCESS_FAULT)
        except Exception:  # the reader gets a sentence, the log the traceback
            logging.getLogger("come.app").exception("A question to the model process failed.")
            self._end("failed", OUR_FAULT)

    def _end(self, status: str, problem: str = "") -> None:
        with self._lock:
            if self.active:
                self.problem = problem
                self.status = status
        self._ended.set()
