"""How far two runs of one model keep the same units."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from come.plan.provenance import Provenance


@dataclass(frozen=True)
class Agreement:
    """Two runs' kept sets, compared layer by layer.

    Attributes:
        jaccard: (layers,), units kept by both over units kept by either; NaN where neither keeps one, or where one
            of the runs averaged the layer.
        chance: (layers,), what two sets of these sizes drawn at random come to; NaN as above.
        touched: (layers,), whether either run lost units of the layer.
        averaged: (layers,), whether either run averaged it.
        chosen: (layers,), whether both runs keep some units and drop others: elsewhere the overlap is the chance level,
            whatever either chose.
    """

    jaccard: np.ndarray
    chance: np.ndarray
    touched: np.ndarray
    averaged: np.ndarray
    chosen: np.ndarray

    @property
    def mean(self) -> float:
        """Over the layers in which both runs chose; NaN where there are none."""
        return _mean(self.jaccard[self.chosen])

    @property
    def mean_chance(self) -> float:
        """The same of the chance level."""
        return _mean(self.chance[self.chosen])


def agreement(one: Provenance, other: Provenance) -> Agreement:
    """Compare what two runs keep of each original layer; both are of one model and one part."""
    averaged = np.logical_or(one.averaged.any(axis=1), other.averaged.any(axis=1))
    first: np.ndarray = one.lost < 0
    second: np.ndarray = other.lost < 0
    both, either = (first & second).sum(axis=1), (first | second).sum(axis=1)
    share, other_share = first.mean(axis=1), second.mean(axis=1)
    undefined = averaged | (either == 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        jaccard = np.where(undefined, np.nan, both / either)
        chance = np.where(undefined, np.nan, share * other_share / (share + other_share - share * other_share))
    touched = np.logical_or((~first).any(axis=1), (~second).any(axis=1))
    chosen = ~undefined & (share % 1 > 0) & (other_share % 1 > 0)
    return Agreement(jaccard, chance, touched, averaged, chosen)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
