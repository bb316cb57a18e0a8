"""What a way to grow is, and what it is given."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from come.events import OnProgress
from come.models import Bundle
from come.options import Options


@dataclass(frozen=True)
class Fit:
    """How well a network predicts the layers that are there, in singular coordinates, over all but the outer two.

    1 is what zeros would have: above that, nothing of a layer is told by its neighbours.

    Attributes:
        error: ‖predicted − V‖ / ‖V‖.
        mean_error: the same of the mean of both neighbours, which nothing was learned for.
    """

    error: float
    mean_error: float


@dataclass(frozen=True)
class GrownLayer:
    """One layer of a grown model.

    Attributes:
        module: the layer; it may share its weights with the original, but with no other layer of the grown model.
        origin: the layer of the original whose entry in the config's per-layer lists it has.
        new: it is not the original's own.
    """

    module: nn.Module
    origin: int
    new: bool = False


@dataclass(frozen=True)
class GrowTask:
    """What a way to grow is given.

    Attributes:
        bundle: the model; it stays as it is.
        layers: how many layers the grown model has.
        after: the layers that a new one is put behind, ascending; None for the way's own choice.
        seed: for whatever is drawn.
        on_progress: told of each part.
        fits: takes up how well each map was learned, by its path, where anything was.
    """

    bundle: Bundle
    layers: int
    after: tuple[int, ...] | None = None
    seed: int = 0
    on_progress: OnProgress = None
    fits: dict[str, Fit] = field(default_factory=dict)

    @property
    def more(self) -> int:
        """How many layers are new."""
        return self.layers - len(self.bundle.layers)


@dataclass(frozen=True)
class Growth:
    """A way to grow a model.

    Attributes:
        name, title: for a command line and for a page.
        paper: where it comes from.
        summary: what it does, in a sentence.
        options: the model of its options.
        function: takes a GrowTask and the options, and gives the layers of the grown model, in order.
        most: how many layers a model of so many can grow to.
        places: new layers lie behind single layers, which may be chosen; ``below_last`` tells that the last is none
            of them.
    """

    name: str
    title: str
    paper: str
    summary: str
    options: type[Options]
    function: Callable[[GrowTask, Any], list[GrownLayer]] = field(repr=False)
    most: Callable[[int], int] = field(repr=False)
    places: bool = True
    below_last: bool = False


def copied(layer: nn.Module) -> nn.Module:
    """A layer over weights of its own: those of two layers of one model must not be the same tensors."""
    return copy.deepcopy(layer)


def with_new(task: GrowTask, after: tuple[int, ...], make: Callable[[int], nn.Module]) -> list[GrownLayer]:
    """The original's layers, and behind each of ``after`` the one that ``make`` gives of its number."""
    found = []
    for number, layer in enumerate(task.bundle.layers):
        found.append(GrownLayer(layer, number))
        if number in after:
            found.append(GrownLayer(make(number), number, new=True))
    return found


def evenly(layers: int, more: int) -> tuple[int, ...]:
    """The last layers of ``more`` groups of as nearly as many layers each."""
    return tuple((group + 1) * layers // more - 1 for group in range(more))
