"""The methods, by name. A method is one function and the dataclass of its options; a decorator registers it."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress
from come.merge.plan import Plan
from come.merge.result import Result
from come.models import Bundle


@dataclass(frozen=True)
class Task:
    """What a method is given.

    Attributes:
        original: the model to prune; it stays as it is.
        current: the model after the steps of ``plan``, which is ``original`` where there are none.
        plan: the plan so far: empty, or what an interrupted run had done.
        tokens: calibration tokens, int64 (sequences, tokens).
        target_layers: how many layers to leave.
        on_progress: told of each stage.
        on_step: given the plan after each step.
    """

    original: Bundle
    current: Bundle
    plan: Plan
    tokens: Tensor
    target_layers: int
    on_progress: OnProgress = None
    on_step: Callable[[Plan], None] | None = None

    def done(self, plan: Plan) -> None:
        """Report the plan after a step."""
        if self.on_step is not None:
            self.on_step(plan)


@dataclass(frozen=True)
class Method:
    """A way to prune a model.

    Attributes:
        name, title: for a command line and for a page.
        paper: where it comes from.
        summary: what it does, in a sentence.
        options: the dataclass of its options; its field names are the options, its defaults the defaults.
        function: takes a Task and the options.
        needs: what it takes of the calibration tokens: "forward" passes, "gradients", nothing.
    """

    name: str
    title: str
    paper: str
    summary: str
    options: type
    function: Callable[[Task, Any], Result] = field(repr=False)
    needs: tuple[str, ...] = ()

    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        return dataclasses.asdict(self.options())

    def parse(self, options: Mapping[str, Any]) -> Any:
        """Options from names and values.

        Raises:
            ComeError: there is no such option, or its value makes no sense.
        """
        known = [each.name for each in dataclasses.fields(self.options)]
        for name in options:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=2)
                raise ComeError(
                    f"The method {self.name} has no option {name!r}.",
                    f"Did you mean {' or '.join(near)}?" if near else f"Its options: {', '.join(known) or 'none'}.",
                )
        return self.options(**options)


_METHODS: dict[str, Method] = {}


def register(
    name: str, *, title: str, paper: str, summary: str, options: type, needs: tuple[str, ...] = ()
) -> Callable[[Callable[[Task, Any], Result]], Callable[[Task, Any], Result]]:
    """Register the function below as the method of that name (see ``Method`` for the rest)."""

    def add(function: Callable[[Task, Any], Result]) -> Callable[[Task, Any], Result]:
        _METHODS[name] = Method(name, title, paper, summary, options, function, needs)
        return function

    return add


def methods() -> dict[str, Method]:
    """Every method, by name, CoMe first."""
    import come.baselines
    import come.merge.come
    import come.merge.come_p  # noqa: F401

    return dict(sorted(_METHODS.items(), key=lambda item: (not item[0].startswith("come"), item[0])))


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ComeError: there is none; the sentence lists near names.
    """
    known = methods()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2)
        raise ComeError(
            f"There is no method {name!r}.",
            f"Did you mean {' or '.join(near)}?" if near else f"Choose from {', '.join(known)}.",
        )
    return known[name]
