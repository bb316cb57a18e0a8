"""Layers of a window read what enters its first one (ours): what they read in their own places is predicted linearly.

A merged layer runs units of later layers on hidden states that lack what the layers between them add. Those additions
go in part by the states: for each later layer, the matrix A that predicts its normed input y from the first one's, x,
is the ridge solution of min sum_t ||y_t - x_t A||^2, held to the identity, and its maps W read W A' in the place of W.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from come.models import Bundle
from come.models.depth import with_layers
from come.models.family import path_of
from come.transforms.folding import reading
from come.transforms.ridge import empty_sums, solve


class Lookahead:
    """The normal equations that predict what several layers read from what the first of them reads."""

    def __init__(self, hidden_size: int, layers: int, device: torch.device | None = None) -> None:
        self.layers, self.size = layers, hidden_size
        self.sums = empty_sums(hidden_size, layers * hidden_size, device)

    def add(self, first: Tensor, read: Sequence[Tensor]) -> None:
        """Add tokens: what the first layer reads, and what each does, (tokens, hidden_size) behind plain norms."""
        missing = torch.cat([each - first for each in read], 1)
        self.sums.add(first, missing, torch.ones(len(first), device=first.device))

    def matrices(self, strength: float) -> list[Tensor]:
        """A of each layer, (hidden_size, hidden_size), float32; the identity where there is nothing to predict."""
        identity = torch.eye(self.size, device=self.sums.gram.device)
        change = solve(self.sums, strength)
        if change is None:
            return [identity] * self.layers
        return [identity + each.float() for each in change.split(self.size, 1)]


def looking_ahead(bundle: Bundle, layers: Sequence[int], matrices: Mapping[str, Sequence[Tensor]]) -> Bundle:
    """The model, some layers of which have folded norms and read what their matrices make of the states.

    Args:
        bundle: the model; it stays as it is.
        layers: which.
        matrices: "attention" and "ffn": for each of these layers, a matrix; where left out, states are read as they
            are.
    """
    family, changed = bundle.family, list(bundle.layers)
    entries = {"attention": family.attention_inputs, "ffn": family.ffn_inputs}
    for at, layer in enumerate(layers):
        through = {path_of(entry): of[at] for part, of in matrices.items() for entry in entries[part]}
        changed[layer] = reading(family, bundle.layers[layer], through)
    return with_layers(bundle, changed, list(range(len(changed))))
