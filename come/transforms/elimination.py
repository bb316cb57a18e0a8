"""Backward elimination of units from a least-squares fit: structured OBS (Hassibi & Stork 1992; arXiv 2203.07259).

A linear map from n inputs is fitted by min_W tr(W'HW) - 2 tr(W'B). Leaving out the inputs E costs
tr(W_E' (H^-1_EE)^-1 W_E) once the others are fitted again, and what is left of H^-1 and W follows by a downdate. Units
of least cost go first. Many are taken at once from the cheapest few, among which costs are followed one by one, so that
the large matrices are updated by products of matrices.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # units that leave between two updates of the whole inverse
POOL = 4  # times as many are looked at


def eliminate(system: Tensor, wanted: Tensor, units: Tensor, keep: int) -> list[int]:
    """The ``keep`` units, ascending, that are left when the cheapest go one after the other.

    Args:
        system: H, (inputs, inputs), symmetric and positive definite; the upper triangle is read.
        wanted: B, (inputs, outputs).
        units: int64 (units, inputs of a unit); inputs of no unit stay in the fit.
        keep: how many units to keep.
    """
    whole = system.triu()
    whole += system.triu(1).T
    factor = torch.linalg.cholesky(whole)
    del whole
    inverse = torch.cholesky_inverse(factor)
    solution = torch.cholesky_solve(wanted, factor)
    del factor
    left = torch.arange(len(units), device=units.device)
    while len(left) > keep:
        count = min(BLOCK, len(left) - keep) if units.shape[1] == 1 else 1
        gone = _cheapest(inverse, solution, units[left], count)
        inputs = units[left[gone]].flatten()
        rows = inverse[:, inputs]
        lost = _solve(rows[inputs], torch.cat([rows.T, solution[inputs]], 1))
        inverse.addmm_(rows, lost[:, : len(inverse)], alpha=-1)
        solution.addmm_(rows, lost[:, len(inverse) :], alpha=-1)
        stays = torch.ones(len(left), dtype=torch.bool, device=left.device)
        stays[gone] = False
        left = left[stays]
    return sorted(left.tolist())


def costs(inverse: Tensor, solution: Tensor, units: Tensor) -> Tensor:
    """What leaving out each unit alone costs, (units,)."""
    own = inverse[units[:, :, None], units[:, None, :]]
    weights = solution[units]
    return (weights * _solve(own, weights)).sum((1, 2))


def _solve(system: Tensor, wanted: Tensor) -> Tensor:
    """The solution of symmetric positive definite systems, (..., n, n) and (..., n, outputs)."""
    if system.shape[-1] == 1:
        return wanted / system
    return torch.cholesky_solve(wanted, torch.linalg.cholesky(system))


def _cheapest(inverse: Tensor, solution: Tensor, units: Tensor, count: int) -> Tensor:
    """Which units leave next, int64 (count,): one by one, each the cheapest once those before it are gone."""
    cost = costs(inverse, solution, units)
    if count == 1:
        return cost.argmin()[None]
    pool = cost.topk(min(POOL * count, len(units)), largest=False).indices
    inputs = units[pool, 0]
    small, weights = inverse[inputs][:, inputs].clone(), solution[inputs].clone()
    gone: list[int] = []
    out = torch.zeros(len(pool), dtype=torch.bool, device=pool.device)
    for _ in range(count):
        each = weights.square().sum(1) / small.diagonal().clamp_min(torch.finfo(small.dtype).tiny)
        unit = int(each.masked_fill(out, torch.inf).argmin())
        gone.append(unit)
        out[unit] = True
        column = small[:, unit] / small[unit, unit]
        weights -= column[:, None] * weights[unit]
        small -= column[:, None] * small[unit].clone()
        # nothing is left of it; its row is out of the running
    return pool[torch.tensor(gone, device=pool.device)]
