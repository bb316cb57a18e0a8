"""The kinds of steps that a plan is made of: what each one does to a model, as data."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from come.numbers import ranges

Part = Literal["ffn", "attention"]
"""A sub-layer. Its units are FFN channels, or KV groups."""

MOST_LAYERS = 10_000
MOST_UNITS = 2**31

Layer = Annotated[int, Field(ge=0, lt=MOST_LAYERS)]
Unit = Annotated[int, Field(ge=0, lt=MOST_UNITS)]

Units = dict[Layer, list[Unit]]
"""By layer, some of its KV groups or FFN channels."""

Parents = list[tuple[int, ...]]
"""For each layer after a step, the layers before it that it was made of."""


Groups = Sequence[Sequence[int]]
"""For each layer of a model, the original layers that it stands for."""


def named(layers: Sequence[int], groups: Groups | None) -> str:
    """Layers in words: the original ones that they stand for; without `groups`, as they are numbered by then."""
    if groups is None:
        return ranges(layers)
    return ranges(sorted(original for layer in layers for original in groups[layer]))


class Strict(BaseModel):
    """Part of a document: it does not change, and has no fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _OfAWindow(Strict):
    """A step that makes one layer of the layers ``window``, (first, last) inclusive."""

    kind: str  # named here, as the document names it before the window
    window: tuple[Layer, Layer]

    @property
    def highest(self) -> int:
        """The highest layer that the step names."""
        return self.window[1]

    def _named(self, groups: Groups | None) -> str:
        """Its layers in words."""
        return named(range(self.window[0], self.window[1] + 1), groups)

    def parents(self, layers: int) -> Parents:
        """What each layer after this step was made of, in a model of so many layers."""
        first, last = self.window
        above = ((layer,) for layer in range(last + 1, layers))
        return [*((layer,) for layer in range(first)), tuple(range(first, last + 1)), *above]


class _InPlace(Strict):
    """A step that leaves every layer where it is."""

    def parents(self, layers: int) -> Parents:
        """What each layer after this step was made of, in a model of so many layers."""
        return [(layer,) for layer in range(layers)]


class Concatenate(_OfAWindow):
    """Replace a window of layers by one layer that keeps the given KV groups and FFN channels of each.

    ``window`` is (first, last), inclusive, in the numbering that holds when the step is taken; ``ratio``,
    ``kv_groups`` and ``channels`` have one entry a layer of the window, the indices ascending. With ``fold`` each
    layer's norms in front of its sub-layers are folded into its own units; else they are averaged.
    """

    kind: Literal["concatenate"] = "concatenate"
    ratio: list[float]
    kv_groups: list[list[Unit]]
    channels: list[list[Unit]]
    fold: bool = False

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

    def kept(self, part: Part) -> list[list[int]]:
        """The units of a part that are kept of each layer of the window."""
        return self.channels if part == "ffn" else self.kv_groups

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        # Units that were chosen together, with folded norms, follow no ratio.
        ratio = "" if self.fold else f", ratio {' : '.join(f'{share:.3f}' for share in self.ratio)}"
        kv_groups = " + ".join(str(len(kept)) for kept in self.kv_groups)
        channels = " + ".join(str(len(kept)) for kept in self.channels)
        return (
            f"Concatenate layers {self._named(groups)}{ratio}: "
            f"{kv_groups} KV groups, {channels} FFN channels{', norms folded' if self.fold else ''}."
        )


class Remove(Strict):
    """Take layers out, by the numbering that holds when the step is taken."""

    kind: Literal["remove"] = "remove"
    layers: list[Layer] = Field(min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> Remove:
        if self.layers != sorted(set(self.layers)) or self.layers[0] < 0:
            raise ValueError("removed layers must be ascending, without repeats")
        return self

    @property
    def highest(self) -> int:
        """The highest layer that the step names."""
        return self.layers[-1]

    def parents(self, layers: int) -> Parents:
        """What each layer after this step was made of, in a model of so many layers."""
        gone = set(self.layers)
        return [(layer,) for layer in range(layers) if layer not in gone]

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        gone = named(self.layers, groups)
        return f"Remove layer{'' if gone.isdigit() else 's'} {gone}."


class Average(_OfAWindow):
    """Replace a window of layers by one whose every parameter is the weighted sum of theirs.

    ``weights`` has one entry a layer of the window, and they sum to 1. Adding the differences to the first layer,
    theta_l + sum_k (theta_(l+k) - theta_l), is the same with the weights (1 - n, 1, ..., 1). With ``rest="first"``
    that holds for the weights of the linear maps alone; norms and biases are the first layer's.
    """

    kind: Literal["average"] = "average"
    weights: list[float]
    rest: Literal["averaged", "first"] = "averaged"

    @model_validator(mode="after")
    def _consistent(self) -> Average:
        first, last = self.window
        if first < 0 or last <= first or len(self.weights) != last - first + 1:
            raise ValueError(f"the window {self.window} and its weights do not fit together")
        if not abs(sum(self.weights) - 1) <= 1e-6:
            raise ValueError("the weights of an average must sum to 1")
        return self

    @property
    def whole(self) -> int | None:
        """The layer, counted within the window, whose units are all that is left; None where several are mixed."""
        entering = [index for index, weight in enumerate(self.weights) if weight]
        return entering[0] if len(entering) == 1 else None

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        weights = " : ".join(f"{weight:.3f}" for weight in self.weights)
        rest = f", norms and biases of layer {named([self.window[0]], groups)}" if self.rest == "first" else ""
        return f"Average layers {self._named(groups)}, weights {weights}{rest}."


class Mask(_InPlace):
    """Silence units: their columns of the output maps become zero; where all of a sub-layer are, its bias too.

    The layers keep their shapes, so the result is a plain checkpoint with zeros. ``parameters`` is what taking the
    units out would save (``come.transforms.mask``).
    """

    kind: Literal["mask"] = "mask"
    kv_groups: Units = {}
    channels: Units = {}
    parameters: int = Field(ge=0, lt=2**53)

    @model_validator(mode="after")
    def _consistent(self) -> Mask:
        if not any((*self.kv_groups.values(), *self.channels.values())):
            raise ValueError("a mask must silence something")
        for units in (self.kv_groups, self.channels):
            for layer, silenced in units.items():
                if layer < 0 or silenced != sorted(set(silenced)) or (silenced and silenced[0] < 0):
                    raise ValueError("silenced units must be ascending, without repeats")
        return self

    @property
    def highest(self) -> int:
        """The highest layer that the step names."""
        return max((*self.kv_groups, *self.channels))

    def silenced(self, part: Part) -> Units:
        """The units of a part that are silenced."""
        return self.channels if part == "ffn" else self.kv_groups

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        silenced = (("KV groups", self.kv_groups), ("FFN channels", self.channels))
        parts = [
            f"{sum(map(len, units.values()))} {name} in layers {named(sorted(units), groups)}"
            for name, units in silenced
            if units
        ]
        return f"Silence {' and '.join(parts)} ({self.parameters:,} parameters)."


class Replace(_InPlace):
    """Put weights from a file in the place of those that are there: what a refit or a training came to.

    ``tensors`` are the names of the parameters in the model of that step; the file lies beside the plan and is
    known by its hash.
    """

    kind: Literal["replace"] = "replace"
    file: str
    sha256: str
    tensors: list[str] = Field(min_length=1)
    made_by: str = ""

    @model_validator(mode="after")
    def _beside_the_plan(self) -> Replace:
        if PurePath(self.file).name != self.file or not self.file.endswith(".safetensors"):
            raise ValueError("the file of a step must be a .safetensors file beside the plan")
        return self

    @property
    def highest(self) -> int:
        """The highest layer that the step names."""
        return 0  # it names parameters; whether the model has them is seen when the step is taken

    @property
    def layers(self) -> list[int]:
        """The layers whose parameters it names, ascending."""
        return sorted({int(match[1]) for name in self.tensors if (match := re.search(r"\.(\d+)\.", name))})

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        by = f" ({self.made_by})" if self.made_by else ""
        known = [layer for layer in self.layers if groups is None or layer < len(groups)]
        layers = named(known, groups)
        of = f"layer{'s' * (' ' in layers)} {layers}" if known else "the model"
        return f"Put weights of {of} in place: {len(self.tensors)} tensors of {self.file}{by}."


class Scale(_InPlace):
    """Multiply the hidden states that enter a layer by a factor, folded into the weights from that layer on.

    What it and the layers above add to the hidden states is divided by the factor instead. All hidden states above are
    then as much smaller, which the final norm takes back: the logits are the same. Nothing below is touched, nor are
    embeddings that a head is tied to.
    """

    kind: Literal["scale"] = "scale"
    layer: Layer
    factor: float = Field(gt=0, allow_inf_nan=False)

    @property
    def highest(self) -> int:
        """The highest layer that the step names."""
        return self.layer

    def describe(self, groups: Groups | None = None) -> str:
        """The step in words; its layers by the original ones, where it is told which they stand for."""
        return (
            f"Multiply the hidden states that enter layer {named([self.layer], groups)} by {self.factor:.4f}: "
            "what it and the layers above add is divided by that."
        )


Step = Annotated[Concatenate | Remove | Average | Mask | Replace | Scale, Field(discriminator="kind")]
