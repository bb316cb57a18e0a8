"""Backward elimination against the same by brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from come.transforms import elimination
from come.transforms.elimination import eliminate


def system(inputs: int, outputs: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(4 * inputs, inputs, generator=generator, dtype=torch.float64)
    states = states @ torch.randn(inputs, inputs, generator=generator, dtype=torch.float64)
    wanted = torch.randn(4 * inputs, outputs, generator=generator, dtype=torch.float64)
    gram = states.T @ states
    return gram + 0.01 * gram.diagonal().mean() * torch.eye(inputs, dtype=torch.float64), states.T @ wanted


def explained(gram: Tensor, wanted: Tensor, rows: list[int]) -> float:
    """What a fit on some inputs explains."""
    solution = torch.linalg.solve(gram[rows][:, rows], wanted[rows])
    return float((solution * wanted[rows]).sum())


def greedy(gram: Tensor, wanted: Tensor, units: Tensor, keep: int) -> list[int]:
    """The same choice, each fit made anew."""
    of_none = sorted(set(range(len(gram))) - set(units.flatten().tolist()))
    left = list(range(len(units)))
    while len(left) > keep:
        fits = [
            explained(gram, wanted, units[[each for each in left if each != gone]].flatten().tolist() + of_none)
            for gone in left
        ]
        left.pop(max(range(len(left)), key=fits.__getitem__))
    return left


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 12), st.integers(1, 3), st.integers(1, 4), st.integers(0, 1), st.integers(0, 99), st.data())
def test_the_cheapest_unit_goes_first(
    count: int, width: int, outputs: int, of_none: int, seed: int, data: st.DataObject
) -> None:
    keep = data.draw(st.integers(1, count))
    gram, wanted = system(count * width + of_none, outputs, seed)
    units = torch.arange(count * width).view(count, width)
    assert eliminate(gram.triu(), wanted, units, keep) == greedy(gram, wanted, units, keep)


def test_many_at_once_lose_hardly_more(monkeypatch: pytest.MonkeyPatch) -> None:
    gram, wanted = system(200, 16, 3)
    units = torch.arange(200)[:, None]
    at_once = eliminate(gram, wanted, units, 100)
    monkeypatch.setattr(elimination, "BLOCK", 1)
    one_by_one = eliminate(gram, wanted, units, 100)
    whole = explained(gram, wanted, list(range(200)))
    lost = [whole - explained(gram, wanted, kept) for kept in (at_once, one_by_one)]
    assert len(at_once) == 100
    assert lost[0] < 1.05 * lost[1]
