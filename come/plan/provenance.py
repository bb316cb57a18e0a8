"""Where the units of a pruned model come from, and when the others went: read off the plan alone.

Units are those of one part: the FFN channels, or the KV groups. Arrays, so that 32 x 11,008 channels take a moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from come.errors import ComeError
from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate, Mask, Part, Remove, Replace, Scale

Kind = Literal["kept", "averaged", "silenced"]

_SILENCED = np.iinfo(np.int64).min


@dataclass(frozen=True)
class Piece:
    """Neighbouring units of a new layer that have one origin.

    Attributes:
        kind: "kept": units of the source as they were; "averaged": units that are weighted sums of several sources,
            one piece a source; "silenced": units whose weights are zero.
        source: the original layer; -1 for silenced units, which are gone wherever they came from.
        count: how many units; those of an average are counted in the piece of each of its sources.
        share: of the new layer; averages are split evenly between their sources, so that shares sum to 1.
        weight: with which the source enters an average.
    """

    kind: Kind
    source: int
    count: int
    share: float
    weight: float = 1.0


@dataclass(frozen=True)
class Layer:
    """A layer after some step: its pieces, what it stands for, and which layers before the step it was made of."""

    pieces: tuple[Piece, ...]
    group: tuple[int, ...]
    parents: tuple[int, ...]


@dataclass(frozen=True)
class Loss:
    """Units of a source layer that one step, of a kind (concatenate, average, remove or mask), took away."""

    step: int
    kind: str
    count: int


@dataclass(frozen=True)
class Provenance:
    """One part of a pruned model, with every unit of the original followed through the plan.

    Attributes:
        part: which part.
        units: how many a layer has.
        rows: for each new layer its units in order, as source layer x units + index; negative where a unit is an
            average or was silenced.
        lost: (layers, units), the step that dropped, removed or silenced a unit; -1 where none did.
        averaged: (layers, units), whether a unit went into an average.
        states: the layers before the first step and after each.
        steps: the kind of each step.
    """

    part: Part
    units: int
    rows: list[np.ndarray]
    lost: np.ndarray
    averaged: np.ndarray
    states: list[list[Layer]]
    steps: list[str]

    @property
    def layers(self) -> int:
        """How many layers the original has."""
        return len(self.lost)

    @property
    def final(self) -> list[Layer]:
        """The layers of the pruned model."""
        return self.states[-1]

    def kept(self, source: int) -> np.ndarray:
        """(units,), which units of an original layer are there as they were."""
        kept: np.ndarray = (self.lost[source] < 0) & ~self.averaged[source]
        return kept

    def losses(self, source: int) -> list[Loss]:
        """What each step took of an original layer, in order."""
        steps, counts = np.unique(self.lost[source][self.lost[source] >= 0], return_counts=True)
        return [Loss(int(step), self.steps[step], int(count)) for step, count in zip(steps, counts, strict=True)]

    def places(self, new_layer: int, source: int) -> np.ndarray:
        """(units,), where in a new layer each unit of an original layer lies; -1 for those that are not in it."""
        row = self.rows[new_layer]
        places = np.full(self.units, -1, dtype=np.int64)
        (own,) = np.nonzero(row // self.units == source) if self.units else (np.array([], dtype=int),)
        places[row[own] % self.units] = own
        return places

    def new_layer_of(self, source: int) -> int | None:
        """The new layer that an original layer went into; None if it was removed whole."""
        return next((place for place, layer in enumerate(self.final) if source in layer.group), None)

    def most_mixed(self) -> int:
        """The new layer whose pieces are the most even mixture, by entropy; if none is, one that lost units.

        Where whole layers were removed, that before the first of them.
        """
        mixture = [mixing(layer.pieces) for layer in self.final]
        if max(mixture) > 1e-9:
            return int(np.argmax(mixture))
        sizes = [len(layer.group) for layer in self.final]
        silenced = [sum(piece.share for piece in layer.pieces if piece.kind == "silenced") for layer in self.final]
        if max(sizes) > 1 or max(silenced) > 0:
            return int(np.lexsort((sizes, silenced))[-1])
        removed = set(range(self.layers)) - {layer for new in self.final for layer in new.group}
        return max(min(removed) - 1, 0) if removed else 0


def mixing(pieces: Sequence[Piece]) -> float:
    """How many sources a layer is a mixture of: the entropy of their shares, in nats; 0 for a single one."""
    shares = np.array([piece.share for piece in pieces if piece.kind != "silenced" and piece.share > 0])
    return float(-(shares * np.log(shares / shares.sum())).sum()) if len(shares) > 1 else 0.0


def units_of(plan: Plan, part: Part, of_the_model: int | None = None) -> int:
    """How many units of a part a layer has, by the plan's merges, else as many as the model's have.

    A plan that only removes or averages whole layers needs no count: then it is 1, where the model is not there.

    Raises:
        ComeError: the plan silences units, and nothing says how many a layer has.
    """
    for step in plan.steps:
        if isinstance(step, Concatenate):
            return sum(map(len, step.kept(part)))
    if of_the_model is not None:
        return of_the_model
    if any(isinstance(step, Mask) for step in plan.steps):
        raise ComeError("The run's model cannot be read, so the size of its layers is not known.")
    return 1


def follow(plan: Plan, part: Part, units: int) -> Provenance:
    """Follow every unit of a part through a plan.

    Raises:
        ComeError: the plan keeps or silences units that a layer does not have.
    """
    layers = plan.base.layers
    rows = list(np.arange(layers * units, dtype=np.int64).reshape(layers, units))
    groups: list[tuple[int, ...]] = [(layer,) for layer in range(layers)]
    lost = np.full(layers * units, -1, dtype=np.int32)
    averaged = np.zeros(layers * units, dtype=bool)
    blends: list[dict[int, float]] = []
    states = [[Layer(_pieces(row, units, blends), group, ()) for row, group in zip(rows, groups, strict=True)]]
    for number, step, parents in plan.walk():
        changed: dict[int, np.ndarray] = {}  # by the lowest layer that they were made of
        match step:
            case Concatenate(window=(first, last)):
                kept, window = step.kept(part), rows[first : last + 1]
                _check(kept, units)
                _lose(lost, number, [np.delete(row, indices) for row, indices in zip(window, kept, strict=True)])
                changed[first] = np.concatenate([row[indices] for row, indices in zip(window, kept, strict=True)])
            case Average(window=(first, last), whole=int(alone)):
                _lose(lost, number, [*rows[first : first + alone], *rows[first + alone + 1 : last + 1]])
                changed[first] = rows[first + alone]
            case Average(window=(first, last)):
                window = rows[first : last + 1]
                for row in window:
                    averaged[row[row >= 0]] = True
                blends.append(_blend(window, step.weights, units, blends))
                changed[first] = np.full(units, -len(blends), dtype=np.int64)
            case Remove():
                _lose(lost, number, [rows[layer] for layer in step.layers])
            case Mask():
                silenced = step.silenced(part)
                _check(silenced.values(), units)
                _lose(lost, number, [rows[layer][indices] for layer, indices in silenced.items()])
                for layer, indices in silenced.items():
                    changed[layer] = rows[layer].copy()
                    changed[layer][indices] = _SILENCED
        rows = [changed.get(above[0], rows[above[0]]) for above in parents]
        groups = [tuple(layer for parent in above for layer in groups[parent]) for above in parents]
        before = states[-1]
        states.append(
            [
                # What a step did not touch has the pieces that it had.
                Layer(_pieces(row, units, blends) if above[0] in changed else before[above[0]].pieces, group, above)
                for row, group, above in zip(rows, groups, parents, strict=True)
            ]
        )
    kinds: list[str] = [step.kind for step in plan.steps]
    return Provenance(part, units, rows, lost.reshape(layers, units), averaged.reshape(layers, units), states, kinds)


def _lose(lost: np.ndarray, step: int, rows: Sequence[np.ndarray]) -> None:
    """Note of the original units among those in ``rows`` that a step took them away."""
    for row in rows:
        lost[row[row >= 0]] = step


def _blend(
    window: Sequence[np.ndarray], weights: Sequence[float], units: int, blends: list[dict[int, float]]
) -> dict[int, float]:
    """With which weight each original layer enters an average, by its share of what is averaged."""
    total: dict[int, float] = {}
    for row, weight in zip(window, weights, strict=True):
        for code, count in zip(*np.unique(_owners(row, units), return_counts=True), strict=True):
            if code == _SILENCED:
                continue
            part = {int(code): 1.0} if code >= 0 else blends[-code - 1]
            for source, share in part.items():
                total[source] = total.get(source, 0.0) + weight * share * int(count) / len(row)
    return total


def _pieces(row: np.ndarray, units: int, blends: list[dict[int, float]]) -> tuple[Piece, ...]:
    """The pieces of a layer, in the order in which they lie in it; what is silenced, which lies anywhere, last."""
    pieces: list[Piece] = []
    owners, starts, counts = np.unique(_owners(row, units), return_index=True, return_counts=True)
    for at in np.argsort(starts, kind="stable"):
        owner, count = int(owners[at]), int(counts[at])
        share = count / len(row)
        if owner == _SILENCED:
            pieces.append(Piece("silenced", -1, count, share))
        elif owner >= 0:
            pieces.append(Piece("kept", owner, count, share))
        else:
            blend = blends[-owner - 1]
            pieces += [Piece("averaged", layer, count, share / len(blend), weight) for layer, weight in blend.items()]
    return tuple(sorted(pieces, key=lambda piece: piece.kind == "silenced"))


def _owners(row: np.ndarray, units: int) -> np.ndarray:
    """For each unit of a layer the original layer it is of, or the negative number that says what else it is."""
    return np.where(row >= 0, row // units, row)


def _check(named: object, units: int) -> None:
    if any(indices and indices[-1] >= units for indices in named):  # type: ignore[attr-defined]
        raise ComeError("The plan names units that its model does not have.", "Use the plan that the run wrote.")


def rewritten(plan: Plan) -> list[list[int]]:
    """For each step, the layers after it whose weights it replaced (by a refit or a training) or scaled."""
    found: list[list[int]] = []
    for _, step, parents in plan.walk():
        if isinstance(step, Replace):
            found.append([layer for layer in step.layers if layer < len(parents)])
        else:
            found.append(list(range(step.layer, len(parents))) if isinstance(step, Scale) else [])
    return found


def retouched(plan: Plan) -> dict[int, list[int]]:
    """The new layers whose weights were replaced or scaled, with the steps that did it."""
    touched: list[list[int]] = [[] for _ in range(plan.base.layers)]
    for (number, _, parents), layers in zip(plan.walk(), rewritten(plan), strict=True):
        touched = [sorted({each for parent in above for each in touched[parent]}) for above in parents]
        for layer in layers:
            touched[layer].append(number)
    return {layer: steps for layer, steps in enumerate(touched) if steps}
