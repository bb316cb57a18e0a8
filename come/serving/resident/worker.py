"""One thread for all computing: visitors take turns, and memory is not spread over many threads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from come.processes import give_back_freed_memory
from come.serving.cancellation import Cancel, Cancelled, never

Made = TypeVar("Made")
LOOK_AGAIN = 0.05  # seconds between two looks whether somebody who waits has given up
AT_REST = 0.5  # seconds without work after which what was freed is given back


@dataclass(eq=False)
class _Turn:
    work: Callable[[], Any]
    future: Future[Any] = field(default_factory=Future)


class Worker:
    """Does pieces of work one at a time, in the order in which they are asked for.

    A visitor has one question and one generation going at most, and a generation asks anew for every token, so nobody
    waits for more than one piece of everybody else's.
    """

    def __init__(self) -> None:
        self._waiting: deque[_Turn] = deque()
        self._changed = threading.Condition()
        self._giving_way = False
        self._thread = threading.Thread(target=self._work, name="worker", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], Made], cancelled: Cancel = never) -> Made:
        """Have something done and wait for it; what it raises is raised here.

        Args:
            work: what to do; once it has begun, it must look for itself whether to give up.
            cancelled: asked while it waits for its turn.

        Raises:
            Cancelled: it was, before its turn came.
        """
        turn = _Turn(work)
        with self._changed:
            self._waiting.append(turn)
            self._changed.notify()
        while True:
            try:
                return turn.future.result(LOOK_AGAIN)  # type: ignore[no-any-return]
            except TimeoutError:
                if turn.future.done():
                    return turn.future.result()  # type: ignore[no-any-return]
                if not cancelled():
                    continue
            with self._changed:
                if turn in self._waiting:
                    self._waiting.remove(turn)
                    raise Cancelled

    def give_way(self) -> None:
        """Within long work: do one piece that waits before going on."""
        if self._giving_way or threading.current_thread() is not self._thread:
            return
        with self._changed:
            turn = self._waiting.popleft() if self._waiting else None
        if turn is not None:
            self._giving_way = True
            try:
                with torch.inference_mode(False):  # as if nothing were under way
                    _take(turn)
            finally:
                self._giving_way = False

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._changed.wait_for(lambda: self._waiting, AT_REST):
                    give_back_freed_memory()
                    self._changed.wait_for(lambda: self._waiting)
                turn = self._waiting.popleft()
            _take(turn)


def _take(turn: _Turn) -> None:
    try:
        turn.future.set_result(turn.work())
    except BaseException as error:
        turn.future.set_exception(error)
