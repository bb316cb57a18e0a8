"""Measuring a pair of layers, joined in two ways, in the resident process: a thread asks, the page looks."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field

from app.learn.material import HOWS
from come.errors import ComeError
from come.events import Event
from come.serving.cancellation import Cancelled
from come.serving.resident import client
from come.serving.resident.connection import LiveFault
from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Merge, Question, Subject


@dataclass
class Measuring:
    """One pair under way. The thread writes to it, the page only reads.

    Attributes:
        pair: the two layers. number: which of this visit's, from 1.
        found: by "original" and by how, as they come.
        message: what is going on. problem: why it ended without an answer.
        ended: set when there is no more to come.
    """

    pair: tuple[int, int]
    number: int = 1
    found: dict[str, Answer] = field(default_factory=dict)
    message: str = "Waking the model"
    problem: str = ""
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def done(self) -> bool:
        """Whether all of it is known."""
        return len(self.found) == 1 + len(HOWS)


def start(subject: Subject, pair: tuple[int, int], visitor: str, number: int = 1) -> Measuring:
    """Ask for the original and for both ways of joining a pair, one after the other."""
    job = Measuring(pair, number)
    threading.Thread(target=_work, args=(job, subject, visitor), name="lesson", daemon=True).start()
    return job


def _work(job: Measuring, subject: Subject, visitor: str) -> None:
    first, last = job.pair
    questions = {"original": Question()} | {
        how: Question(merges=(Merge(first=first, last=last, how=how),)) for how in HOWS
    }
    words = {"original": "Reading the text", "concatenate": "Concatenating", "average": "Averaging"}

    def tell(event: Event) -> None:
        job.message = event.message or job.message

    try:
        for name, question in questions.items():
            job.message = words[name]
            job.found[name] = client.whatif(subject, question, key=visitor, on_progress=tell)
    except Cancelled:
        job.problem = "A newer question of yours took its place."
    except ComeError as error:
        job.problem = str(error)
    except LiveFault as fault:
        logging.getLogger("come.app").error("The model process: %s", fault)
        job.problem = "The model process met a fault of ours; its log has the details."
    except Exception:  # a thread's traceback goes nowhere that the visitor looks
        logging.getLogger("come.app").exception("The lesson's question to the model process failed.")
        job.problem = "This met a fault of ours; the server's log has the details."
    finally:
        job.ended.set()
