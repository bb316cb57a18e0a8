"""A question to the resident process, asked by a thread of its own: the page looks at it and never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from come.errors import ComeError
from come.events import Event
from come.serving.cancellation import Cancelled
from come.serving.resident import client
from come.serving.resident.connection import LiveFault
from come.serving.whatif.answer import Answer, Suggestion
from come.serving.whatif.question import Question, Subject

FAULT = "The model process met a fault of ours; its log has the details. The page works without it."

OnProgress = Callable[[Event], None]


@dataclass
class Job:
    """One question under way. A thread writes to it; the page only reads, but for ``superseded``.

    Attributes:
        key: what was asked, so that the same is not asked twice.
        superseded: set it when nobody waits for this any more.
        ended: set when there is an outcome, a problem, or neither because it was superseded.
        event: what was last reported.
        outcome: what came back.
        problem: one sentence, where nothing did.
        began: when, as time.monotonic().
    """

    key: str
    superseded: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)
    event: Event | None = None
    outcome: Any = None
    problem: str = ""
    began: float = field(default_factory=time.monotonic)

    @property
    def open(self) -> bool:
        """Whether it is still at work for somebody."""
        return not self.ended.is_set() and not self.superseded.is_set()


@dataclass(frozen=True)
class Predicted:
    """What a plan would come to, and the original on the same tokens."""

    original: Answer
    answer: Answer


def predict(subject: Subject, question: Question, visitor: str, key: str) -> Job:
    """Ask what a question's edits come to; ``job.outcome`` becomes a ``Predicted``."""

    def ask(job: Job) -> Predicted:
        original = _asked(job, lambda tell: client.whatif(subject, Question(), key=visitor, on_progress=tell))
        answer = _asked(job, lambda tell: client.whatif(subject, question, key=visitor, on_progress=tell))
        return Predicted(original, answer)

    return _start(Job(key), ask)


def suggest(subject: Subject, question: Question, visitor: str, key: str) -> Job:
    """Ask for the best next window; ``job.outcome`` becomes a ``Suggestion``."""

    def ask(job: Job) -> Suggestion:
        found = _asked(job, lambda tell: client.suggest(subject, question, key=visitor, on_progress=tell))
        return found[0]

    return _start(Job(key), ask)


def _start(job: Job, ask: Callable[[Job], Any]) -> Job:
    def work() -> None:
        try:
            job.outcome = ask(job)
        except Cancelled:
            pass  # a newer question took its place
        except ComeError as error:
            job.problem = str(error)
        except LiveFault as fault:
            logging.getLogger("come.app").error("The model process: %s", fault)
            job.problem = FAULT
        except Exception:  # a thread's traceback goes nowhere that the visitor looks
            logging.getLogger("come.app").exception("A question to the model process failed.")
            job.problem = FAULT
        finally:
            job.ended.set()

    threading.Thread(target=work, name="whatif", daemon=True).start()
    return job


def _asked(job: Job, ask: Callable[[OnProgress], Any]) -> Any:
    def tell(event: Event) -> None:
        job.event = event

    while not job.superseded.is_set():
        try:
            return ask(tell)
        except Cancelled:
            continue  # an older question of this visitor was still being put; unless this one is old by now, ask again
    raise Cancelled
