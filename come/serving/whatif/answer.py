"""The answer to a what-if question: metrics of an edited model on held-out tokens, and how two answers compare."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ConfigDict

from come.serving.whatif.question import Document


class Answer(Document):
    """An edited model, evaluated on a subject's tokens. Metrics are named as in a run's results.

    Attributes:
        layers, parameters, bytes: of the edited model; bytes are its weights' in their dtype.
        speed_up: an estimate: the weights that every token is multiplied with, in the layers and the head, of the
            original over the edited model's. Attention over the context is left out, and silenced units, which keep
            their place, save nothing.
        perplexity, bits_per_byte, kl: as in ``come.evaluate``; kl in nats a predicted token. Each has a standard
            error over sequences, nan for a single one.
        losses, divergences: of each sequence, mean nats a predicted token; what the above are made of.
        perplexity_halves, kl_halves: on the first and on the second half of the sequences alone.
        tokens: how many were predicted.
        start: the first layer that had to be run; those below are the original's.
        seconds: what it took. cached: it was known already.
    """

    model_config = ConfigDict(allow_inf_nan=True)  # a standard error over one sequence is none

    layers: int
    parameters: int
    bytes: int
    speed_up: float
    perplexity: float
    perplexity_stderr: float
    bits_per_byte: float
    bits_per_byte_stderr: float
    kl: float
    kl_stderr: float
    losses: tuple[float, ...]
    divergences: tuple[float, ...]
    perplexity_halves: tuple[float, float]
    kl_halves: tuple[float, float]
    tokens: int
    start: int
    seconds: float
    cached: bool = False


class Suggestion(Document):
    """A window to merge next.

    Attributes:
        first, last: the window, in the original numbering.
        skip_influence: its SBI, by the one measuring pass over the original; skip_influence_halves: the same by each
            half of the calibration text.
        ranks: by each half, its place among the windows that are free, 1 for the best: (1, 1) is a stable choice.
        free: how many windows there were to choose from.
        answer: what the question with this window added would come to.
    """

    first: int
    last: int
    skip_influence: float
    skip_influence_halves: tuple[float, float]
    ranks: tuple[int, int]
    free: int
    answer: Answer


@dataclass(frozen=True)
class Change:
    """How one answer differs from another on the same tokens.

    Attributes:
        loss, stderr: the change of the mean loss in nats a token, and its standard error over sequences. It is taken
            sequence by sequence, so it is far smaller than the errors of the two perplexities.
        ratio: of the perplexities.
        halves: the change on each half of the sequences.
    """

    loss: float
    stderr: float
    ratio: float
    halves: tuple[float, float]

    @property
    def stable(self) -> bool:
        """Whether both halves of the text say that it went the same way."""
        first, second = self.halves
        return first * second > 0


def change(before: Answer, after: Answer) -> Change:
    """What going from one answer to another does to the loss; both must be on the same subject's tokens."""
    differences = [b - a for a, b in zip(before.losses, after.losses, strict=True)]
    loss, count = statistics.fmean(differences), len(differences)
    stderr = statistics.stdev(differences) / math.sqrt(count) if count > 1 else math.nan
    return Change(loss, stderr, math.exp(min(loss, 700.0)), halves(differences))


def halves(values: Sequence[float]) -> tuple[float, float]:
    """The mean of the first and of the second half of the sequences; nan where there is but one."""
    middle = len(values) // 2
    if middle == 0:
        return math.nan, math.nan
    return statistics.fmean(values[:middle]), statistics.fmean(values[middle:])
