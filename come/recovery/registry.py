"""The ways to recover a pruned model, by name. A way is one function and the dataclass of its options."""

from __future__ import annotations

import dataclasses
import difflib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.events import Event, OnProgress
from come.models import Bundle
from come.options import options_of
from come.recovery.spans import Span

Stop = Callable[[], bool]
ORDER = ("refit", "distill-mp", "distill-sp", "logits", "lora", "partial")
DEFAULT = ("refit", "logits")  # gave back most for its time: docs/results.md


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

    def emit(self, share: float, message: str, **values: Any) -> None:
        """Report that a share of this way's work is done."""
        overall = (self.number + min(1.0, share)) / self.count
        if self.on_progress is not None:
            self.on_progress(Event("recover", round(1000 * overall), 1000, message, values))

    def checkpoint_of(self, part: str) -> Path | None:
        """The file for the state of one training."""
        return self.checkpoint / f"{self.number + 1}-{part}.safetensors" if self.checkpoint is not None else None


@dataclass(frozen=True)
class Recovered:
    """What a way came to.

    Attributes:
        tensors: new values of the student's parameters, by name; float32 or its dtype.
        notes: what a reader should know of it.
    """

    tensors: dict[str, Tensor]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Way:
    """A way to recover.

    Attributes:
        name, title: for a command line and for a page.
        paper: where it comes from.
        summary: what it does, in a sentence.
        cost: what it costs, in a sentence.
        options: the dataclass of its options; its field names are the options, its defaults the defaults.
        function: takes a RecoverTask and the options.
    """

    name: str
    title: str
    paper: str
    summary: str
    cost: str
    options: type
    function: Callable[[RecoverTask, Any], Recovered] = field(repr=False)

    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        return dataclasses.asdict(self.options())

    @property
    def option_names(self) -> list[str]:
        """The names of its options."""
        return [each.name for each in dataclasses.fields(self.options)]


FOLDER = "come.recovery.ways"
_WAYS: dict[str, Way] = {}


def register(
    name: str, *, title: str, paper: str, summary: str, cost: str, options: type
) -> Callable[[Callable[[RecoverTask, Any], Recovered]], Callable[[RecoverTask, Any], Recovered]]:
    """Register the function below as the way of that name (see ``Way`` for the rest)."""

    def add(function: Callable[[RecoverTask, Any], Recovered]) -> Callable[[RecoverTask, Any], Recovered]:
        _WAYS[name] = Way(name, title, paper, summary, cost, options, function)
        return function

    return add


def ways() -> dict[str, Way]:
    """Every way, by name, in the order in which they are chained."""
    for module in pkgutil.iter_modules(import_module(FOLDER).__path__):
        import_module(f"{FOLDER}.{module.name}")

    return dict(sorted(_WAYS.items(), key=lambda item: ORDER.index(item[0]) if item[0] in ORDER else len(ORDER)))


def names_of(how: str | Sequence[str]) -> list[str]:
    """The names of the ways that are asked for: a list, or joined by commas; "default" stands for ``DEFAULT``."""
    names = [name.strip() for name in how.split(",") if name.strip()] if isinstance(how, str) else how
    return [way for name in names for way in (DEFAULT if name == "default" else (name,))]


def parse(how: str | Sequence[str], options: Mapping[str, Any]) -> list[tuple[Way, Any]]:
    """The ways that are asked for, each with its options.

    Args:
        how: a name, or several (``names_of``).
        options: an option goes to every way that has it; "logits.lr" to that way alone.

    Raises:
        ComeError: there is no such way or option, or its value is of another kind than it takes or makes no sense.
    """
    known = ways()
    names = names_of(how)
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            raise ComeError(
                f"There is no way to recover named {name!r}.",
                f"Did you mean {' or '.join(near)}?" if near else f"Choose from {', '.join(known)}.",
            )
    if not names:
        raise ComeError("No way to recover was named.", f"Choose from {', '.join(known)}.")
    chosen = [known[name] for name in names]
    _check_options(chosen, options)
    return [(way, options_of(way.options, _options_of(way, options), way.name)) for way in chosen]


def _options_of(way: Way, options: Mapping[str, Any]) -> dict[str, Any]:
    common = {name: value for name, value in options.items() if name in way.option_names}
    own = {name.partition(".")[2]: value for name, value in options.items() if name.startswith(f"{way.name}.")}
    return common | own


def _check_options(chosen: list[Way], options: Mapping[str, Any]) -> None:
    known = {name for way in chosen for own in way.option_names for name in (own, f"{way.name}.{own}")}
    for name in options:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            plain = sorted(each for each in known if "." not in each)
            raise ComeError(
                f"{' and '.join(way.name for way in chosen)} have no option {name!r}."
                if len(chosen) > 1
                else f"The recovery {chosen[0].name} has no option {name!r}.",
                f"Did you mean {' or '.join(near)}?" if near else f"The options: {', '.join(plain)}.",
            )
