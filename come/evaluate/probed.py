"""What a probe found, as values: of a task, and the mean of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from math import hypot
from statistics import fmean
from typing import Any

FEWEST = 20  # questions of a task: below that nothing is learned, nor told apart


@dataclass(frozen=True)
class Probe:
    """What a mix of layers' states makes of a task's questions, and what the last layer's alone makes of them.

    Attributes:
        weights: s, (layers + 1,): of what enters the first layer, then of what leaves each; they add up to 1.
        gamma: γ, for a head of length 1.
        accuracy, stderr: of the mix, on the questions held out.
        last_accuracy, last_stderr: of a head on the last states alone, after the final norm, on the same questions.
        gain, gain_stderr: the difference of both, and its error over the pairs.
        chance: what guessing scores on them: the mean of 1 / choices.
        train, held_out: how many questions each was learned and judged on.
        hits, last_hits: 1 or 0 for each question held out, in their order.
    """

    weights: tuple[float, ...]
    gamma: float
    accuracy: float
    stderr: float
    last_accuracy: float
    last_stderr: float
    gain: float
    gain_stderr: float
    chance: float
    train: int
    held_out: int
    hits: tuple[int, ...] = field(repr=False)
    last_hits: tuple[int, ...] = field(repr=False)

    @property
    def depth(self) -> float:
        """The mean depth that is read from, as a share of the model: 0 its embeddings, 1 what leaves its last layer."""
        return sum(layer * weight for layer, weight in enumerate(self.weights)) / (len(self.weights) - 1)

    def to_results(self) -> dict[str, Any]:
        """What results hold of it, by name."""
        return asdict(self) | {
            "weights": list(self.weights),
            "hits": _signs(self.hits),
            "last_hits": _signs(self.last_hits),
        }

    @classmethod
    def from_results(cls, values: Mapping[str, Any]) -> Probe:
        """The probe of which ``to_results`` gave these; what another version added is passed over."""
        known = {name: values[name] for name in cls.__dataclass_fields__}
        for name in ("hits", "last_hits"):
            known[name] = tuple(map(int, known[name]))
        return cls(**known | {"weights": tuple(known["weights"])})


def mean_probe(probes: Sequence[Probe]) -> Probe:
    """The mean over tasks; they hold different questions, so their errors are independent."""

    def mean(name: str) -> float:
        return fmean(getattr(each, name) for each in probes)

    def error(name: str) -> float:
        return hypot(*(getattr(each, name) for each in probes)) / len(probes)

    return Probe(
        weights=tuple(map(fmean, zip(*(each.weights for each in probes), strict=True))),
        gamma=mean("gamma"),
        accuracy=mean("accuracy"),
        stderr=error("stderr"),
        last_accuracy=mean("last_accuracy"),
        last_stderr=error("last_stderr"),
        gain=mean("gain"),
        gain_stderr=error("gain_stderr"),
        chance=mean("chance"),
        train=sum(each.train for each in probes),
        held_out=sum(each.held_out for each in probes),
        hits=tuple(hit for each in probes for hit in each.hits),
        last_hits=tuple(hit for each in probes for hit in each.last_hits),
    )


def _signs(hits: Sequence[int]) -> str:
    return "".join(map(str, hits))
