"""Weighted ridge regression from streamed sums: float64, whatever comes in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRIPS = 4  # in which the upper triangle of the sums is taken: five eighths of the whole product


@dataclass
class Sums:
    """Weighted sums over tokens that a change of a map is solved from; float64, each batch's product float32.

    Attributes:
        gram: X^T W X of the map's inputs, (channels, channels), of which only the upper triangle is kept; with a
            bias, a last channel of ones.
        cross: X^T W R of the inputs with what the output lacks, (channels, hidden_size).
    """

    gram: Tensor
    cross: Tensor

    def add(self, inputs: Tensor, lacking: Tensor, weight: Tensor) -> None:
        """Add tokens: inputs (tokens, channels), what is lacking (tokens, hidden_size), weights (tokens,)."""
        weighted = (inputs * weight[:, None]).T
        size = -(-len(self.gram) // STRIPS)
        for start in range(0, len(self.gram), size):
            strip = slice(start, start + size)
            self.gram[strip, start:] += weighted[strip] @ inputs[:, start:]
        self.cross += weighted @ lacking

    def gain(self, change: Tensor) -> float:
        """By how much a change, (channels, hidden_size), lowers the weighted squared error."""
        gram = self.gram.triu() + self.gram.triu(1).T
        return float(2 * (change * self.cross).sum() - (change * (gram @ change)).sum())


def solve(sums: Sums, strength: float) -> Tensor | None:
    """The ridge solution, (channels, hidden_size), float64; None where the sums are singular.

    Args:
        sums: of the tokens to fit.
        strength: of the ridge, as a share of the mean diagonal of the sums.
    """
    system = sums.gram.clone()
    system.diagonal().add_(strength * float(system.diagonal().mean()))
    factor, failed = torch.linalg.cholesky_ex(system, upper=True)
    return None if int(failed) else torch.cholesky_solve(sums.cross, factor, upper=True)


def best_solution(sums: Sums, held_out: Sums, strengths: Sequence[float]) -> tuple[float, Tensor] | None:
    """The strength whose solution does most for the held-out tokens, with that solution; None where none helps."""
    best, most = None, 0.0
    for strength in strengths:
        change = solve(sums, strength)
        if change is not None and (gain := held_out.gain(change)) > most:
            best, most = (strength, change), gain
    return best
