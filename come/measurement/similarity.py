"""How alike the hidden states at any two layer borders are: cosine, angular distance, linear CKA."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from come.errors import ComeError
from come.measurement.statistics import angle

KINDS = ("cosine", "angular", "cka")
CKA_TOKENS = 2048
TOKENS_AT_ONCE = 128  # few enough for their states at all borders to stay in the cache


class Similarities:
    """Sums up the similarity of the hidden states at every pair of layer borders, batch by batch.

    Cosines and angles are means over all tokens. Linear CKA compares whole sets of tokens, (tokens x tokens) Gram
    matrices, so it is taken on at most ``CKA_TOKENS`` tokens spread evenly over all.
    """

    def __init__(self, kinds: Sequence[str], layers: int, n_tokens: int) -> None:
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown:
            raise ComeError(f"There is no similarity {unknown[0]!r}.", f"Choose from {', '.join(KINDS)}.")
        self.kinds = tuple(kinds)
        self.layers = layers
        self.n_tokens = n_tokens
        self.cka_tokens = min(n_tokens, CKA_TOKENS) if "cka" in kinds else 0
        self._sums = {kind: torch.zeros(layers + 1, layers + 1) for kind in kinds if kind != "cka"}
        self._batch: list[Tensor] = []
        self._sampled: list[Tensor] = []
        self._seen = 0

    def add(self, _batch: int, border: int, hidden_states: Tensor) -> None:
        """Add the hidden states of one border of a batch; the borders of a batch come in order."""
        self._batch.append(hidden_states.flatten(0, -2))
        if border == self.layers:
            self._add_batch(self._batch)
            self._batch = []

    def matrices(self) -> dict[str, Tensor]:
        """Each kind's matrix, (layers + 1, layers + 1)."""
        found = {kind: sums.cpu() / self.n_tokens for kind, sums in self._sums.items()}
        if self.cka_tokens:
            found["cka"] = linear_cka(torch.cat(self._sampled, dim=1))
        return {kind: found[kind] for kind in self.kinds}

    def _add_batch(self, borders: list[Tensor]) -> None:
        tokens = len(borders[0])
        if self.cka_tokens:
            self._sample(borders, tokens)
        self._seen += tokens
        if not self._sums:
            return
        device = borders[-1].device
        for start in range(0, tokens, TOKENS_AT_ONCE):
            states = torch.stack([border[start : start + TOKENS_AT_ONCE].to(device) for border in borders], dim=1)
            cosines = _cosines(states.float())
            for kind, sums in self._sums.items():
                values = cosines if kind == "cosine" else angle(cosines)
                self._sums[kind] = sums.to(device) + values.sum(0)

    def _sample(self, borders: list[Tensor], tokens: int) -> None:
        """Token number floor(k * n_tokens / cka_tokens) for each k, of those in this batch."""
        every = torch.arange(self.cka_tokens) * self.n_tokens // self.cka_tokens - self._seen
        here = every[(every >= 0) & (every < tokens)]
        self._sampled.append(torch.stack([border[here.to(border.device)].cpu() for border in borders]))


def _cosines(states: Tensor) -> Tensor:
    """(tokens, borders, hidden_size) -> (tokens, borders, borders); 0.5 where a state is zero, NaN where one is."""
    norms = torch.linalg.vector_norm(states, dim=-1)
    scale = norms[:, :, None] * norms[:, None, :]
    cosines = torch.where(scale == 0, 0.5, torch.bmm(states, states.transpose(1, 2)) / scale).clamp_(0, 1)
    # Rounding would make a state 0.0002 pi away from itself.
    cosines.diagonal(dim1=1, dim2=2).copy_(torch.where(norms == 0, 0.5, norms / norms))
    return cosines


def linear_cka(states: Tensor) -> Tensor:
    """Linear CKA of every pair of sets of hidden states (Kornblith et al. 2019, arXiv 1905.00414).

    Args:
        states: (borders, tokens, hidden_size).

    Returns:
        (borders, borders), float32, in [0, 1].
    """
    states = states.float()
    states = states - states.mean(1, keepdim=True)  # centred features make centred Gram matrices
    borders, tokens, _ = states.shape
    shared = torch.zeros(borders, borders)
    for start in range(0, tokens, 128):
        # Gram matrices are symmetric: what stands right of the block on the diagonal counts twice.
        grams = torch.bmm(states[:, start : start + 128], states[:, start:].transpose(1, 2))
        grams[:, :, 128:] *= math.sqrt(2)
        # Scaled by the tokens, so that the sums of squares stay well inside float32.
        grams = grams.flatten(1) / tokens
        shared += grams @ grams.T
    scale = shared.diagonal().sqrt()
    return (shared / (scale[:, None] * scale[None, :]).clamp_min(torch.finfo(torch.float32).tiny)).clamp_(0, 1)
