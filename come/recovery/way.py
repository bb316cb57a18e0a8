"""What a way of recovery is, what it is given, what it gives back, and what work it foretells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.events import Event, OnProgress
from come.models import Bundle
from come.models.not_finite import first_place, why_not_finite
from come.options import Options
from come.plan.plan import Plan, Span
from come.training.trainer import TrainOptions

Stop = Callable[[], bool]


@dataclass(frozen=True)
class RecoverTask:
    """What a way is given.

    Attributes:
        student: the pruned model; it stays as it is.
        teacher: the model that it was pruned from.
        tokens: to learn from, int64 (sequences, tokens).
        spans: for each layer of the student, which layers of the teacher it stands for.
        lossy: those among them that lost something.
        checkpoint: a folder for what a killed run goes on from.
        stop: asked now and then whether to stop early and keep the best.
        on_progress: told of each step.
        number, count: which way of how many this is.
        plan: what made the student of the teacher, but for what the ways before this one put in place.
    """

    student: Bundle
    teacher: Bundle
    tokens: Tensor
    spans: list[Span]
    lossy: list[Span]
    checkpoint: Path | None = None
    stop: Stop | None = None
    on_progress: OnProgress = None
    number: int = 0
    count: int = 1
    plan: Plan | None = None

    def emit(self, share: float, message: str, **values: Any) -> None:
        """Report that a share of this way's work is done."""
        overall = (self.number + min(1.0, share)) / self.count
        if self.on_progress is not None:
            self.on_progress(Event("recover", round(1000 * overall), 1000, message, values))

    def why_not_finite(self) -> ComeError:
        """Where the original's values, else the pruned model's, are no numbers on the tokens."""
        overflows = first_place(self.teacher, self.tokens) is not None
        return why_not_finite(self.teacher if overflows else self.student, self.tokens)

    def checkpoint_of(self, part: str) -> Path | None:
        """The file for the state of one training."""
        return self.checkpoint / f"{self.number + 1}-{part}.safetensors" if self.checkpoint is not None else None


@dataclass(frozen=True)
class Recovered:
    """What a way came to.

    Attributes:
        tensors: new values of the student's parameters, by name; float32 or its dtype.
        notes: what a reader should know of it.
        layers: how many of the original's first layers the student has, where more were put back.
    """

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)
    layers: int | None = None


@dataclass(frozen=True)
class RecoverySize:
    """What the work of a way depends on, as it is known before a run.

    Attributes:
        original, layers: how many layers the original and the pruned model have.
        lossy: how many of the pruned model's layers lost something.
        tokens: how many there are to learn from.
    """

    original: int
    layers: int
    lossy: int
    tokens: int


@dataclass(frozen=True)
class Work:
    """What a way runs, from which the time that it takes is estimated.

    Attributes:
        tokens: over how many tokens ``layers`` and ``heads`` are run, and refits are solved.
        layers: layers run; the way back through one and its weights counts as two more.
        heads: how often the head is run, counted likewise.
        refitted: layers whose FFN output map is solved for by least squares.
        seconds: how long is trained, where that is given instead.
        teacher_tokens: over how many the original is run before anything is trained.
        written: how many tokens the pruned model writes to be trained on, so many of them ``at_once``.
    """

    tokens: int = 0
    layers: float = 0.0
    heads: float = 0.0
    refitted: int = 0
    seconds: float = 0.0
    teacher_tokens: int = 0
    written: int = 0
    at_once: int = 1


def training_work(
    size: RecoverySize, options: TrainOptions, layers: float, *, heads: float = 0.0, teacher_tokens: int = 0
) -> Work:
    """The work of a training: as long as its options say, else what its steps run, of so many layers and heads."""
    if options.minutes is not None:
        return Work(seconds=60 * options.minutes, teacher_tokens=teacher_tokens)
    tokens = options.steps * options.batch_tokens if options.steps is not None else size.tokens
    return Work(tokens, layers, heads, teacher_tokens=teacher_tokens)


@dataclass(frozen=True)
class Way:
    """A way to recover.

    Attributes:
        name, title: for a command line and for a page.
        paper: where it comes from.
        summary: what it does, in a sentence.
        cost: what it costs, in a sentence.
        order: its place among the ways where several follow one another; the lowest comes first.
        default: whether "default" holds it.
        options: the model of its options.
        work: tells, from a RecoverySize and the options, what it will run.
        function: takes a RecoverTask and the options.
        after: the kinds of methods whose models it takes; empty for all.
    """

    name: str
    title: str
    paper: str
    summary: str
    cost: str
    order: int
    default: bool
    options: type[Options]
    work: Callable[[RecoverySize, Any], Work] = field(repr=False)
    function: Callable[[RecoverTask, Any], Recovered] = field(repr=False)
    after: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        return self.options().model_dump()

    @property
    def option_names(self) -> list[str]:
        """The names of its options."""
        return list(self.options.model_fields)
