"""A plan: the small JSON document that rebuilds a pruned model from its base, bit for bit."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from come.errors import ComeError


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(_Strict):
    """The identity of the model that a plan is for: where it came from, and the hash of its weights."""

    source: str
    revision: str | None = None
    fingerprint: str
    model_type: str
    layers: int = Field(ge=1)
    parameters: int = Field(ge=0)


class Concatenate(_Strict):
    """Replace a window of layers by one layer that keeps the given KV groups and FFN channels of each.

    ``window`` is (first, last), inclusive, in the numbering that holds when the step is taken; ``ratio``,
    ``kv_groups`` and ``channels`` have one entry a layer of the window, the indices ascending.
    """

    kind: Literal["concatenate"] = "concatenate"
    window: tuple[int, int]
    ratio: list[float]
    kv_groups: list[list[int]]
    channels: list[list[int]]

    @model_validator(mode="after")
    def _consistent(self) -> Concatenate:
        first, last = self.window
        size = last - first + 1
        if first < 0 or size < 2 or {len(self.ratio), len(self.kv_groups), len(self.channels)} != {size}:
            raise ValueError(f"the window {self.window} and what is kept of its layers do not fit together")
        for kept in (*self.kv_groups, *self.channels):
            if kept != sorted(set(kept)) or (kept and kept[0] < 0):
                raise ValueError("kept indices must be ascending, without repeats")
        return self

    def apply_to_groups(self, groups: list[list[int]]) -> list[list[int]]:
        """What each layer stands for, after this step."""
        first, last = self.window
        merged = [layer for group in groups[first : last + 1] for layer in group]
        return [*groups[:first], merged, *groups[last + 1 :]]

    def describe(self) -> str:
        """The step in words."""
        first, last = self.window
        shares = " : ".join(f"{share:.3f}" for share in self.ratio)
        groups = " + ".join(str(len(kept)) for kept in self.kv_groups)
        channels = " + ".join(str(len(kept)) for kept in self.channels)
        return (
            f"Concatenate layers {first} to {last} (numbering of this step), ratio {shares}: "
            f"{groups} KV groups, {channels} FFN channels."
        )


class Remove(_Strict):
    """Take layers out, by the numbering that holds when the step is taken."""

    kind: Literal["remove"] = "remove"
    layers: list[int] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Remove:
        if self.layers != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError("removed layers must be ascending, without repeats")
        return self

    def apply_to_groups(self, groups: list[list[int]]) -> list[list[int]]:
        """What each layer stands for, after this step."""
        gone = set(self.layers)
        return [group for layer, group in enumerate(groups) if layer not in gone]

    def describe(self) -> str:
        """The step in words."""
        return f"Remove layers {', '.join(map(str, self.layers))} (numbering of this step)."


Step = Annotated[Concatenate | Remove, Field(discriminator="kind")]


class Plan(_Strict):
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
    options: dict[str, Any] = {}
    calibration: dict[str, Any] = {}
    steps: list[Step] = []
    notes: list[str] = []

    @model_validator(mode="after")
    def _within_the_model(self) -> Plan:
        groups = [[layer] for layer in range(self.base.layers)]
        for step in self.steps:
            highest = step.window[1] if isinstance(step, Concatenate) else step.layers[-1]
            if highest >= len(groups):
                raise ValueError(f"a step names layer {highest} of a model that has {len(groups)} by then")
            groups = step.apply_to_groups(groups)
        if not groups:
            raise ValueError("no layer is left")
        return self

    def groups(self) -> list[list[int]]:
        """The original layers that each layer of the pruned model stands for; a removed one is in none."""
        groups = [[layer] for layer in range(self.base.layers)]
        for step in self.steps:
            groups = step.apply_to_groups(groups)
        return groups

    @property
    def layers(self) -> int:
        """How many layers the pruned model has."""
        return len(self.groups())

    def with_step(self, step: Concatenate | Remove) -> Plan:
        """The plan with one more step."""
        return self.model_copy(update={"steps": [*self.steps, step]})

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; the file is replaced whole."""
        path = Path(path)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            try:
                file.write(self.model_dump_json())
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
        Path(file.name).chmod(0o644)
        Path(file.name).replace(path)

    @classmethod
    def parse(cls, text: str | bytes, name: str = "The plan") -> Plan:
        """Read a plan from JSON.

        Raises:
            ComeError: it is no plan; the sentence says where it goes wrong.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the document"
            raise ComeError(
                f"{name} is not a valid plan: {where}: {first['msg']}.",
                "Choose a plan.json that a run wrote.",
            ) from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Plan:
        """Read a plan from a file.

        Raises:
            ComeError: there is no such file, or it is no plan.
        """
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ComeError(f"The plan {path} cannot be read: {error.strerror}.", "Check the path.") from error
        return cls.parse(text, str(path))


def canonical(options: dict[str, Any]) -> dict[str, Any]:
    """Options as they look once they have been through JSON, so that a plan read back equals the plan written."""
    return json.loads(json.dumps(options))  # type: ignore[no-any-return]
