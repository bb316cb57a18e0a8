"""What a visit remembers of what-if: the open questions, the answers so far, and in which order they came."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from app.components.background_job import Job
from app.components.poll import Look
from app.plan.whatif.ask import Predicted, Prediction
from app.state import session
from come.serving.whatif.question import Question, Subject
from come.source_fingerprint import source_fingerprint

_KEPT = 200


@dataclass(frozen=True)
class Answered:
    """A plan that was answered, by the method that it was looked at with last."""

    subject: str
    found: Predicted
    method: str

    @property
    def name(self) -> str:
        """What tells it from others: "CoMe, 24 layers"."""
        return f"{self.method}, {self.found.answer.layers} layers"


@dataclass
class Memory:
    """Of one visit.

    Attributes:
        prediction, suggestion: the questions put last.
        answers: by subject and question.
        order: those keys as they were looked at, the newest last; no two neighbours are the same.
        allowed: keys for which "Predict" was pressed.
        open: what draws the questions that this run of the page found open.
        shown: the prediction of the plan as it stands, where this run of the page shows it.
    """

    prediction: Prediction | None = None
    suggestion: Job | None = None
    answers: dict[str, Answered] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    allowed: set[str] = field(default_factory=set)
    open: list[Look] = field(default_factory=list)
    shown: Predicted | None = None

    def draw_until_ended(self, job: Job, draw: Callable[[], object]) -> None:
        """Draw what is going on now, and again and again when the page follows what is open."""

        def look() -> bool:
            draw()
            return not job.active

        draw()
        self.open.append(look)

    def remember(self, key: str, subject: Subject, found: Predicted, method: str) -> None:
        """Keep an answer, and that it was looked at."""
        self.answers[key] = Answered(_told(subject), found, method)
        self.look_at(key, method)
        for old in [each for each in self.answers if each not in self.order]:
            del self.answers[old]

    def look_at(self, key: str, method: str) -> None:
        """Say that an answer is shown now, to a plan by that method: two may come to the same edits."""
        self.answers[key] = replace(self.answers[key], method=method)
        if not self.order or self.order[-1] != key:
            self.order.append(key)
            del self.order[:-_KEPT]

    def last_before(self, key: str, subject: Subject) -> Answered | None:
        """The plan on the same subject that was answered last before this one."""
        same = _told(subject)
        for each in reversed(self.order):
            if each != key and each in self.answers and self.answers[each].subject == same:
                return self.answers[each]
        return None

    def tried(self, subject: Subject) -> list[Answered]:
        """All answered plans on a subject, the one looked at last at the end."""
        same = _told(subject)
        keys = dict.fromkeys(reversed(self.order))
        return [
            self.answers[key] for key in reversed(keys) if key in self.answers and self.answers[key].subject == same
        ]


def memory() -> Memory:
    """This visit's."""
    held: Memory | None = session.value("_whatif")
    if held is None:
        held = Memory()
        session.put("_whatif", held)
    return held


def key_of(subject: Subject, asked: Question | str) -> str:
    """What tells two questions apart; or the runs, by name, that measured two plans."""
    return f"{_told(subject)}{asked if isinstance(asked, str) else asked.model_dump_json()}"


def _told(subject: Subject) -> str:
    """The subject, and of which files it is: a text that was edited since is another one."""
    return f"{subject.model_dump_json()}{source_fingerprint(subject.model)}{source_fingerprint(subject.text)}"
