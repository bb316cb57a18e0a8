"""The fit of one output map from units of several layers at once: which units to keep, and the map for them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from come.models import Bundle
from come.models.family import unit_rows
from come.transforms.elimination import eliminate
from come.transforms.ridge import Sums, empty_sums


def energies(bundle: Bundle, layers: Sequence[nn.Module], path: str, units: int, inputs: Sequence[Tensor]) -> Tensor:
    """What each unit of each layer adds through its own output map, squared: the sum over its inputs of x^2 ||w||^2.

    Args:
        bundle: whose layers they are.
        layers: whose maps, and ``inputs``: what enters each, (tokens, inputs).
        path: of the map.
        units: how many a layer has.

    Returns:
        (layers * units,), layer by layer.
    """
    found = []
    for layer, seen in zip(layers, inputs, strict=True):
        weight = bundle.family.matrix(layer, path).float()
        found.append((seen.square().sum(0) * weight.square().sum(0)).view(units, -1).sum(1))
    return torch.cat(found)


class OutputFit:
    """The normal equations of an output map from the units of several layers.

    Attributes:
        candidates: int64, the units that are in the fit, ascending; unit u of the layer at ``a`` is a * units + u.
    """

    def __init__(
        self, bundle: Bundle, layers: Sequence[nn.Module], path: str, units: int, candidates: Tensor | None = None
    ) -> None:
        self.family, self.path, self.units, self.layers = bundle.family, path, units, len(layers)
        weights = [bundle.family.matrix(layer, path) for layer in layers]
        self.dtype, width = weights[0].dtype, weights[0].shape[1]
        every = torch.arange(len(layers) * units)
        self.candidates = every if candidates is None else candidates.cpu()
        by_unit = unit_rows(path, len(layers) * width, len(every))[0]
        device = weights[0].device
        self.inputs = by_unit[self.candidates].flatten().to(device)
        self.own = torch.cat([weight.T.float() for weight in weights])[self.inputs]  # (inputs, hidden_size)
        self.biases = [
            bias.float() for layer in layers if (bias := getattr(layer.get_submodule(path), "bias", None)) is not None
        ]
        self.sums: Sums = empty_sums(len(self.own) + bool(self.biases), self.own.shape[1], device)

    def add(self, inputs: Sequence[Tensor], target: Tensor, weight: Tensor) -> None:
        """Add tokens: the layers' inputs, (tokens, inputs) each, the output wanted, (tokens, hidden_size), weights."""
        columns = torch.cat(list(inputs), 1)[:, self.inputs]
        if self.biases:
            columns = torch.cat([columns, torch.ones(len(target), 1, device=target.device)], 1)
        self.sums.add(columns, target, weight)

    def choose(self, strength: float) -> list[list[int]]:
        """The units that are kept of each layer, as many in all as a layer has."""
        gram, own = self.sums.gram, self._own([1 / self.layers] * self.layers)
        pull = strength * float(gram.diagonal().mean())
        system = gram.float()  # of which the upper triangle is read: the whole in float64 would be twice as large
        system.diagonal().copy_(gram.diagonal() + pull)
        table = torch.arange(len(self.inputs)).view(len(self.candidates), -1)
        wanted = (self.sums.cross + pull * own.double()).float()
        left = eliminate(system, wanted, table.to(system.device), self.units)
        kept = self.candidates[left].tolist()
        return [[unit - self.units * at for unit in kept if unit // self.units == at] for at in range(self.layers)]

    def solve(self, kept: Sequence[Sequence[int]], ratio: Sequence[float], strength: float) -> dict[str, Tensor]:
        """The map of the units kept, as tensors by their names in the layer, in its dtype.

        Args:
            kept: of each layer, ascending; all in the fit.
            ratio: the layers' shares, by which a bias's own value is weighted.
            strength: of the ridge, as a share of the mean diagonal.
        """
        wanted_units = torch.tensor([at * self.units + unit for at, units in enumerate(kept) for unit in units])
        places = torch.searchsorted(self.candidates, wanted_units)
        rows = torch.arange(len(self.inputs)).view(len(self.candidates), -1)[places].flatten()
        if self.biases:
            rows = torch.cat([rows, torch.tensor([len(self.inputs)])])
        system, wanted = self._system(rows, ratio, strength)
        solution = torch.cholesky_solve(wanted, torch.linalg.cholesky(system))
        weight = solution[: len(rows) - bool(self.biases)]
        new = {f"{self.path}.weight": weight if self.family.transposed else weight.T}
        if self.biases:
            new[f"{self.path}.bias"] = solution[-1]
        return {name: value.to(self.dtype).contiguous() for name, value in new.items()}

    def _system(self, rows: Tensor, ratio: Sequence[float], strength: float) -> tuple[Tensor, Tensor]:
        """The ridge system of some inputs, held to their own columns, and what it is solved for; float64."""
        own = self._own(ratio)
        gram, rows = self.sums.gram, rows.to(own.device)
        pull = strength * float(gram.diagonal().mean())
        system = gram[rows][:, rows].triu()
        system += system.triu(1).T
        system.diagonal().add_(pull)
        return system, self.sums.cross[rows] + pull * own[rows].double()

    def _own(self, ratio: Sequence[float]) -> Tensor:
        """The columns of the layers' own maps, (inputs, hidden_size), and last their biases, weighted by a ratio."""
        if not self.biases:
            return self.own
        shares = torch.tensor(ratio, device=self.own.device)
        return torch.cat([self.own, (shares[:, None] * torch.stack(self.biases)).sum(0, keepdim=True)])
