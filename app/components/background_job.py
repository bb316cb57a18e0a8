"""Something asked of the resident process in the background: its thread writes here, the page reads and redraws."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from come.errors import ComeError
from come.events import Event
from come.serving.cancellation import Cancelled

# A page that is shown looks at its job a few times a second; browsers slow down tabs in the background.
SECONDS_UNSEEN = 15.0
OUR_FAULT = "That met a fault of ours. Ask again; if it stays, the server's log has the details."


class Job:
    """One question and how far it is.

    Attributes:
        status: "waiting" for the model, "working", "done", "stopped" or "failed".
        news: what is being done now, in words.
        problem: why it failed, as a sentence.
    """

    def __init__(self) -> None:
        self.status = "waiting"
        self.news = ""
        self.problem = ""
        self._seen = time.monotonic()
        self._lock = threading.Lock()

    @property
    def active(self) -> bool:
        """Whether it is still at work."""
        return self.status in ("waiting", "working")

    def begin(self, work: Callable[[], None]) -> None:
        """Do the work in a thread of its own. It is told to give up through :meth:`go_on`."""
        threading.Thread(target=self._do, args=(work,), name="playground", daemon=True).start()

    def look(self) -> None:
        """Say that somebody is watching; what nobody watches for a while ends."""
        self._seen = time.monotonic()

    def stop(self) -> None:
        """Give up; what came so far stays."""
        self._end("stopped")

    def go_on(self) -> None:
        """Called by the work whenever it can end.

        Raises:
            Cancelled: it was stopped, or the page was left.
        """
        if not self.active or time.monotonic() - self._seen > SECONDS_UNSEEN:
            raise Cancelled

    def told(self, event: Event) -> None:
        """Progress of the resident process; also a moment to end at."""
        self.go_on()
        self.news = event.message or event.stage

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
            self._end("done")
        except Cancelled:
            self._end("stopped")
        except ComeError as error:
            self._end("failed", str(error))
        except Exception:  # the reader gets a sentence, the log the traceback
            logging.getLogger("come.app").exception("The playground failed.")
            self._end("failed", OUR_FAULT)

    def _end(self, status: str, problem: str = "") -> None:
        with self._lock:
            if self.active:
                self.problem = problem
                self.status = status
