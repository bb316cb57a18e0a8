"""What a method is, and what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from come.events import OnProgress, as_stage
from come.measurement.measure import measure
from come.measurement.measurement import Measurement
from come.models import Bundle
from come.options import parse_option, parse_options
from come.plan.plan import Plan
from come.pruning.forecast import Forecast, Known
from come.pruning.options import MethodOptions, RemovalOptions
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule, with_refits

Kind = Literal["merge", "remove", "mask", "average", "train"]
"""What becomes of layers: several are concatenated or averaged into one, some go, parts of them are silenced, or some
go and one is trained to stand for them."""


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
        tokens = self.plan.calibration["tokens_hash"], self.tokens.shape
        key = (self.original.fingerprint, tokens, *sorted(rules.items()))
        if key not in self.measured:
            self.measured[key] = measure(
                self.original, self.tokens, on_progress=as_stage(self.on_progress, "compress"), **rules
            )
        return self.measured[key]  # type: ignore[no-any-return]

    @property
    def finished(self) -> bool:
        """Whether the steps of ``plan`` leave ``target_layers`` layers already."""
        return len(self.current.layers) == self.target_layers

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
        kind: what becomes of layers.
        options: the model of its options.
        function: takes a Task and the options.
        cost: what it costs, in a sentence.
        needs: what it takes of the calibration tokens: "forward" passes, "logits", "gradients", "training"; nothing.
            Options may add to it (``needs_with``).
        target: "layers" where it leaves ``target_layers`` layers; "parameters" where it keeps every layer and leaves
            at most the parameters that a model of so many layers has, and as nearly as its units allow.
        stepwise: a plan for fewer layers begins with the steps of one for more, where the options allow that
            (``MethodOptions.one_by_one``).
        reference: what others are held against, and nobody's choice.
        begins: whether it is the method of a request that names none.
        portfolio: the options that it is tried with where the best of several methods is wanted, beside a refit and
            those that all of them share; None where it is not among them.
        presets: the options that a preset stands for, by its name (``come.pruning.presets``).
        forecast: takes what is known before a run and the options, and tells what the method would do; None in place
            of an answer where it lacks a measurement. Methods that only a run can tell of have no such function.
        work: takes the same and the calibration tokens, and tells what the method runs. Without it, a method that
            needs anything runs every layer once, measuring.
    """

    name: str
    title: str
    paper: str
    summary: str
    kind: Kind
    options: type[MethodOptions]
    function: Callable[[Task, Any], Result] = field(repr=False)
    cost: str = ""
    needs: tuple[str, ...] = ()
    target: Literal["layers", "parameters"] = "layers"
    stepwise: bool = False
    reference: bool = False
    begins: bool = False
    portfolio: Mapping[str, Any] | None = None
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    forecast: Callable[[Known, Any], Forecast | None] | None = field(default=None, repr=False)
    work: Callable[[Known, Any, Calibration], Schedule] | None = field(default=None, repr=False)

    def defaults(self) -> dict[str, Any]:
        """Every option with its default."""
        return self.options().model_dump()

    def parse(self, options: Mapping[str, Any]) -> Any:
        """Options from names and values.

        Raises:
            ComeError: there is no such option, its value is none that it takes, or does not go with the others.
        """
        return parse_options(self.options, options, self.name)

    def check_option(self, name: str, value: Any) -> None:
        """Refuse what can be no option of it, whatever the others are.

        Raises:
            ComeError: there is no such option, or its value is none that it takes.
        """
        parse_option(self.options, name, value, self.name)

    def goes_on(self, options: Mapping[str, Any]) -> bool:
        """Whether with these options a plan for fewer layers begins with the steps of one for more."""
        return self.stepwise and bool(self.parse(options).one_by_one)

    def needs_with(self, options: MethodOptions) -> tuple[str, ...]:
        """What it takes of the calibration tokens with these options."""
        return tuple(dict.fromkeys((*self.needs, *options.needs)))

    def schedule(self, known: Known, options: MethodOptions, tokens: Calibration) -> Schedule:
        """What a run of it will do."""
        if not known.surplus:
            return Schedule()
        if self.work is not None:
            schedule = self.work(known, options, tokens)
        else:
            schedule = Schedule([float(known.layers)] if self.needs_with(options) else [])
        if isinstance(options, RemovalOptions) and options.refit:
            found = self.forecast(known, options) if self.forecast is not None else None
            return with_refits(schedule, known, options, found.removed if found is not None else None)
        return schedule
