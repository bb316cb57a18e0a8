"""Weighted ridge regression from normal equations that tokens were streamed into, in float64.

Once they are there, no strength of the ridge needs the tokens again. Strengths are compared in float32 and on a few
random mixtures of the outputs, which tells them apart; only the chosen one is solved for in full, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

STRIPS = 8  # in which the upper triangle of X'WX is taken: nine sixteenths of the whole product
LEAST_IN_FLOAT32 = 1e-4  # the lowest strength that float32 can tell from none
MIXTURES = 64  # of the outputs, on which strengths are compared; where there are fewer outputs, on these


@dataclass
class Sums:
    """X'WX and X'WR of a linear map, summed over tokens in float64; each batch's product is float32.

    Attributes:
        gram: X'WX of the map's inputs, (channels, channels), of which only the upper triangle is kept; with a bias, a
            last channel of ones.
        cross: X'WR of the inputs with the residual, (channels, hidden_size).
    """

    gram: Tensor
    cross: Tensor

    def add(self, inputs: Tensor, residual: Tensor, weight: Tensor) -> None:
        """Add tokens: inputs (tokens, channels), residual (tokens, hidden_size), weight (tokens,)."""
        weighted = (inputs * weight[:, None]).T
        size = -(-len(self.gram) // STRIPS)
        for start in range(0, len(self.gram), size):
            strip = slice(start, start + size)
            self.gram[strip, start:] += weighted[strip] @ inputs[:, start:]
        self.cross += weighted @ residual

    def gain(self, change: Tensor) -> float:
        """By how much a change, (channels, hidden_size), lowers the weighted squared error; to float32 accuracy."""
        return _gain(_half(self.gram), self.cross.float(), change.float())


def empty_sums(channels: int, outputs: int, device: torch.device | None = None) -> Sums:
    """Sums over no tokens yet, for a map from ``channels`` to ``outputs``."""
    gram, cross = (torch.zeros(channels, size, dtype=torch.float64, device=device) for size in (channels, outputs))
    return Sums(gram, cross)


def solve(sums: Sums, strength: float) -> Tensor | None:
    """The ridge solution, (channels, hidden_size), float64; None where the sums are singular.

    Args:
        sums: of the tokens to fit.
        strength: of the ridge, as a share of the mean diagonal of the sums.
    """
    return _solve(sums.gram.clone(), sums.cross, strength)


def best_strength(sums: Sums, held_out: Sums, strengths: Sequence[float]) -> float | None:
    """The strength whose solution does most for the held-out tokens, if it is one of several; None where none helps."""
    if len(strengths) == 1:
        return strengths[0]
    mixing = _mixing(sums.cross)
    wanted, held_wanted = (each.cross.float() @ mixing for each in (sums, held_out))
    gram, held_gram = sums.gram.float(), _half(held_out.gram)
    best, most = None, 0.0
    for strength in strengths:
        change = _solve(gram.clone(), wanted, strength) if strength >= LEAST_IN_FLOAT32 else None
        if change is None and (exact := solve(sums, strength)) is not None:
            change = exact.float() @ mixing
        if change is not None and (gain := _gain(held_gram, held_wanted, change)) > most:
            best, most = strength, gain
    return best


def _solve(system: Tensor, wanted: Tensor, strength: float) -> Tensor | None:
    """The ridge solution of sums, of which the first is overwritten."""
    system.diagonal().add_(strength * float(system.diagonal().mean()))
    factor, failed = torch.linalg.cholesky_ex(system, upper=True)
    return None if int(failed) else torch.cholesky_solve(wanted, factor, upper=True)


def _half(gram: Tensor) -> Tensor:
    """The upper triangle and half of the diagonal, float32: with its transpose, the whole."""
    half = gram.triu().float()
    half.diagonal().mul_(0.5)
    return half


def _gain(half: Tensor, wanted: Tensor, change: Tensor) -> float:
    return float(2 * ((change * wanted).sum() - (change * (half @ change)).sum()))


def _mixing(cross: Tensor) -> Tensor:
    """Random mixtures of the outputs, (hidden_size, mixtures), that keep lengths on average; always the same ones."""
    outputs = cross.shape[1]
    if outputs <= MIXTURES:
        return torch.eye(outputs, device=cross.device)
    generator = torch.Generator().manual_seed(0)
    mixing: Tensor = torch.randn(outputs, MIXTURES, generator=generator) / MIXTURES**0.5
    return mixing.to(cross.device)
