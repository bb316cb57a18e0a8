"""A plan: the small JSON document that rebuilds a pruned model from its base, bit for bit."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, PrivateAttr, ValidationError, model_validator
from torch import Tensor

from come import reading
from come.errors import ComeError, reason_of
from come.files import written_whole
from come.plan.steps import MOST_LAYERS, Concatenate, Mask, Parents, Replace, Step, Strict
from come.plan.weights import Weights

MOST_STEPS = 10_000
RECOVERED = "Recovery, "  # so begin the notes of what a recovery did
MOST_LAYERS_BY_STEPS = 1_000_000  # all that follows a plan goes through the layers at each step


class Base(Strict):
    """The identity of the model that a plan is for: where it came from, and the hash of its weights."""

    source: str
    revision: str | None = None
    fingerprint: str
    model_type: str
    layers: int = Field(ge=1, le=MOST_LAYERS)
    parameters: int = Field(ge=0, lt=2**53)


class Taken(NamedTuple):
    """A step of a plan as it is taken: its number, and what each layer after it was made of."""

    number: int
    step: Step
    parents: Parents


class Plan(Strict):
    """How a model was pruned: its base, the steps in order, and what they were decided on.

    Attributes:
        base: the model it is for.
        dtype: the dtype of the weights that it was made in, and that a rebuild starts from.
        method, options: what made it.
        calibration: the tokens that it was decided on.
        steps: what was done, in order.
        notes: what a reader should know of the choices.
    """

    schema_version: Literal[1] = 1
    base: Base
    dtype: str
    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    calibration: dict[str, Any] = Field(default_factory=dict)
    steps: list[Step] = Field(default_factory=list, max_length=MOST_STEPS)
    notes: list[str] = Field(default_factory=list, max_length=100_000)
    _weights: Weights = PrivateAttr(default_factory=Weights)

    @model_validator(mode="after")
    def _within_the_model(self) -> Plan:
        if self.base.layers * len(self.steps) > MOST_LAYERS_BY_STEPS:
            raise ValueError(f"{len(self.steps):,} steps of a model of {self.base.layers:,} layers are too many")
        layers, masked = self.base.layers, False
        for _, step, parents in self.walk():
            if step.highest >= layers:
                raise ValueError(f"a step names layer {step.highest} of a model that has {layers} by then")
            if masked and not isinstance(step, Mask | Replace):
                raise ValueError("layers cannot be merged or removed after some of their units were silenced")
            layers, masked = len(parents), masked or isinstance(step, Mask)
        if not layers:
            raise ValueError("no layer is left")
        return self

    def walk(self) -> Iterator[Taken]:
        """The steps in order, each with what it does to the list of layers: all that follows layers goes by this."""
        layers = self.base.layers
        for number, step in enumerate(self.steps):
            parents = step.parents(layers)
            yield Taken(number, step, parents)
            layers = len(parents)

    def groups(self) -> list[list[int]]:
        """The original layers that each layer of the pruned model stands for; a removed one is in none."""
        return self.groups_by_step()[-1]

    def groups_by_step(self) -> list[list[list[int]]]:
        """The same before each step, and after the last."""
        found = [[[layer] for layer in range(self.base.layers)]]
        for taken in self.walk():
            found.append([[layer for parent in above for layer in found[-1][parent]] for above in taken.parents])
        return found

    def merged(self) -> list[list[int]]:
        """The original layers of each merge by concatenation, in order."""
        taken = zip(self.steps, self.groups_by_step()[1:], strict=True)
        return [groups[step.window[0]] for step, groups in taken if isinstance(step, Concatenate)]

    def in_words(self) -> list[str]:
        """Each step in words, its layers named as the original's."""
        return [step.describe(groups) for step, groups in zip(self.steps, self.groups_by_step(), strict=False)]

    @property
    def layers(self) -> int:
        """How many layers the pruned model has."""
        return len(self.groups())

    @property
    def silenced_parameters(self) -> int:
        """How many parameters the units that were silenced have."""
        return sum(step.parameters for step in self.steps if isinstance(step, Mask))

    def with_step(self, step: Step) -> Plan:
        """The plan with one more step."""
        return self.model_copy(update={"steps": [*self.steps, step]})

    def with_note(self, note: str) -> Plan:
        """The plan with one more note."""
        return self.with_notes([note])

    def with_notes(self, notes: Sequence[str]) -> Plan:
        """The plan with more notes."""
        return self.model_copy(update={"notes": [*self.notes, *notes]})

    def with_tensors(self, tensors: Mapping[str, Tensor], made_by: str = "") -> Plan:
        """The plan with one more step, which puts these tensors in place; ``write`` leaves them beside the plan.

        Args:
            tensors: by the parameters' names in the model after the steps so far.
            made_by: what they come from, for people.
        """
        weights = self._weights.copy()
        file, sha256 = weights.add(tensors)
        plan = self.with_step(Replace(file=file, sha256=sha256, tensors=sorted(tensors), made_by=made_by))
        plan._weights = weights
        return plan

    def tensors(self, step: Step) -> dict[str, Tensor] | None:
        """What a step puts in place, by name; None for a step that needs no tensors.

        Raises:
            ComeError: the file is not there, or is not the one that was written.
        """
        return self._weights.read(step.file, step.sha256) if isinstance(step, Replace) else None

    @property
    def has_weights(self) -> bool:
        """Whether all that its steps put in place is at hand, so that it can be rebuilt."""
        return all(self._weights.has(step.file) for step in self.steps if isinstance(step, Replace))

    def same_request(self, other: Plan) -> bool:
        """Whether two plans come from one request, however far each has got."""
        told = {"steps", "notes"}
        return self.model_dump(exclude=told) == other.model_dump(exclude=told)

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON, and beside it the tensors of its steps; files are replaced whole.

        Raises:
            ComeError: the disk is full or the folder may not be written.
        """
        path = Path(path)
        for step in self.steps:
            if isinstance(step, Replace):
                self._weights.write(path.parent, step.file)
        with written_whole(path) as temporary:
            temporary.write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def parse(cls, text: str | bytes, name: str = "The plan") -> Plan:
        """Read a plan from JSON.

        Raises:
            ComeError: it is no plan; the sentence says where it goes wrong.
        """
        hint = "Choose a plan.json that a run wrote."
        if len(text) > reading.LARGEST:
            raise ComeError(f"{name} is not a valid plan: it is larger than {reading.LARGEST >> 20} MiB.", hint)
        try:
            plan = cls.model_validate_json(text)
            for values in (plan.options, plan.calibration):
                reading.bounded(values, name)
        except ValidationError as error:
            raise ComeError(f"{name} is not a valid plan: {reading.first_of(error)}.", hint) from error
        except (RecursionError, OverflowError, MemoryError, UnicodeError) as error:
            raise ComeError(f"{name} is not a valid plan: {reason_of(error)}.", hint) from error
        return plan

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a file.

        Raises:
            ComeError: there is no such file, or it is no plan.
        """
        try:
            text = reading.bytes_of(Path(path))
        except FileNotFoundError as error:
            raise ComeError(f"The plan {path} cannot be read: {error.strerror}.", "Check the path.") from error
        plan = cls.parse(text, str(path))
        plan._weights = Weights(folder=Path(path).absolute().parent)
        return plan


def canonical(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they look once they have been through JSON, so that a plan read back equals the plan written."""
    return json.loads(json.dumps(options))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Span:
    """A layer of a pruned model, and the layers of the original in whose place it is.

    Attributes:
        layer: of the pruned model.
        first, end: it should make H^(end) of H^(first) of the original; ``end`` is the layer after the last.
    """

    layer: int
    first: int
    end: int

    @property
    def layers(self) -> range:
        """The original's layers that it stands for."""
        return range(self.first, self.end)


def spans_of(plan: Plan) -> list[Span]:
    """The span of each layer of the pruned model.

    A layer answers for the removed ones right above it too; where the first layers are gone, the lowest that is left
    answers for them.
    """
    groups = plan.groups()
    firsts = [0, *(group[0] for group in groups[1:])]
    ends = [*firsts[1:], plan.base.layers]
    return [Span(layer, first, end) for layer, (first, end) in enumerate(zip(firsts, ends, strict=True))]
