"""Where tasks on a cluster leave word of how they go, and see whether they are to stop: a small Ray actor."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

BEAT = 1.0  # seconds between two words of a task

News = list[tuple[int, dict[str, Any] | None]]
"""(layer, the fields of a step), or (layer, None) for a layer that has begun."""


class Board:
    """What tasks say, until it is heard."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._news: News = []
        self._stopped = False

    def say(self, news: News) -> bool:
        """Leave word; returns whether the task is to stop and keep the best."""
        self._news += news
        return self._stopped

    def hear(self) -> News:
        """Take what was said."""
        news, self._news = self._news, []
        return news

    def stop(self) -> None:
        """Let all tasks stop."""
        self._stopped = True


class Teller:
    """A task's side: a thread that says what there is to say, so that the work does not wait. A context manager.

    The thread matters in another way too: a task that waits for Ray in its main thread gives up its CPUs meanwhile.
    """

    def __init__(self, layer: int, say: Callable[[News], bool]) -> None:
        """Take the layer and how to say something (it may fail: nobody hears then)."""
        self.layer, self._say = layer, say
        self._news: News = [(layer, None)]
        self._stopped = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="teller", daemon=True)

    def __enter__(self) -> Teller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, point: dict[str, Any]) -> None:
        """Have a step said soon."""
        self._news.append((self.layer, point))

    def stopped(self) -> bool:
        """Whether the task was told to stop, as far as is known."""
        return self._stopped

    def _beat(self) -> None:
        while True:
            over = self._over.is_set()
            count = len(self._news)
            try:
                self._stopped = self._say(self._news[:count]) or self._stopped
                del self._news[:count]
            except Exception:  # the run that asked is gone, and this task soon will be
                return
            if over:
                return
            self._over.wait(BEAT)
