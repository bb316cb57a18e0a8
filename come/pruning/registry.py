"""The methods, by name. A method is one function and the dataclass of its options; a decorator registers it."""

from __future__ import annotations

import dataclasses
import difflib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, as_stage
from come.models import Bundle
from come.options import check, options_of
from come.plan.plan import Plan
from come.pruning.result import Result

if TYPE_CHECKING:
    from come.measurement.measurement import Measurement
    from come.pruning.forecast import Forecast, Known


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
        measured: measuring passes by model, tokens and rules; other requests may share it.
    """

    original: Bundle
    current: Bundle
    plan: Plan
    tokens: Tensor
    target_layers: int
    on_progress: OnProgress = None
    on_step: Callable[[Plan], None] | None = None
    measured: dict[Any, Any] = field(default_factory=dict)

    def measure(self, **rules: Any) -> Measurement:
        """One measuring pass over the original model (``come.measure`` with these rules), taken once for all.

        Progress is told as that of the stage "compress".
        """
        from come.measurement.measure import measure

        tokens = self.plan.calibration["tokens_hash"], self.tokens.shape
        key = (self.original.fingerprint, tokens, *sorted(rules.items()))
        if key not in self.measured:
            self.measured[key] = measure(
                self.original, self.tokens, on_progress=as_stage(self.on_progress, "compress"), **rules
            )
        return self.measured[key]  # type: ignore[no-any-return]

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
        options: the dataclass of its options; its field names are the options, its defaults the defaults. Where it
            has a method ``check(layers, target)``, that refuses targets that do not go with the options.
        function: takes a Task and the options.
        needs: what it takes of the calibration tokens: "forward" passes, "gradients", "training", nothing.
        cost: what it costs, in a sentence.
        target: "layers" where it leaves ``target_layers`` layers; "parameters" where it keeps every layer and leaves
            at most the parameters that a model of so many layers has, and as nearly as its units allow.
        stepwise: a plan for fewer layers begins with the steps of one for more (see ``goes_on``).
        forecast: takes what is known before a run and the options, and tells what the method would do; None in place
            of an answer where it lacks a measurement. Methods that only a run can tell of have no such function.
    """

    name: str
    title: str
    paper: str
    summary: str
    options: type
    function: Callable[[Task, Any], Result] = field(repr=False)
    needs: tuple[str, ...] = ()
    cost: str = ""
    target: Literal["layers", "parameters"] = "layers"
    stepwise: bool = False
    forecast: Callable[[Known, Any], Forecast | None] | None = field(default=None, repr=False)

    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        return dataclasses.asdict(self.options())

    def parse(self, options: Mapping[str, Any]) -> Any:
        """Options from names and values.

        Raises:
            ComeError: there is no such option, its value is of another kind than it takes, or makes no sense.
        """
        for name in options:
            self._check_name(name)
        return options_of(self.options, options, self.name)

    def check_option(self, name: str, value: Any) -> None:
        """Refuse what can be no option of it, whatever the others are.

        Raises:
            ComeError: there is no such option, or its value is of another kind than it takes.
        """
        self._check_name(name)
        check(self.options, name, value, self.name)

    def _check_name(self, name: str) -> None:
        known = [each.name for each in dataclasses.fields(self.options)]
        if name not in known:
            near = difflib.get_close_matches(name, known, n=2)
            raise ComeError(
                f"The method {self.name} has no option {name!r}.",
                f"Did you mean {' or '.join(near)}?" if near else f"Its options: {', '.join(known) or 'none'}.",
            )


FOLDER = "come.pruning.methods"
_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    title: str,
    paper: str,
    summary: str,
    options: type,
    needs: tuple[str, ...] = (),
    cost: str = "",
    target: Literal["layers", "parameters"] = "layers",
    stepwise: bool = False,
    forecast: Callable[[Known, Any], Forecast | None] | None = None,
) -> Callable[[Callable[[Task, Any], Result]], Callable[[Task, Any], Result]]:
    """Register the function below as the method of that name (see ``Method`` for the rest)."""

    def add(function: Callable[[Task, Any], Result]) -> Callable[[Task, Any], Result]:
        _METHODS[name] = Method(name, title, paper, summary, options, function, needs, cost, target, stepwise, forecast)
        return function

    return add


def goes_on(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a method with these options begins a plan for fewer layers with the steps of one for more."""
    chosen = method(name)
    given = {**chosen.defaults(), **options}
    # Longer windows may be shortened to meet a target, and fewer passes take several windows from one.
    one_by_one = given.get("span", 2) == 2 and given.get("passes") is None and given.get("windows") is None
    return chosen.stepwise and one_by_one


def methods() -> dict[str, Method]:
    """Every method, by name, CoMe first."""
    for module in pkgutil.iter_modules(import_module(FOLDER).__path__):
        import_module(f"{FOLDER}.{module.name}")
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
