from __future__ import annotations

import math

import pytest
import torch

from come.evaluate import Accuracy, mean_retention, retained, retained_by_task, retention


def test_it_is_the_share_above_chance_that_is_left() -> None:
    assert retention(0.65, 0.45, 0.25) == (pytest.approx(0.5), 0.0)
    assert retention(0.65, 0.65, 0.25) == (1.0, 0.0)
    assert retention(0.65, 0.20, 0.25)[0] == pytest.approx(-0.125)


def test_nothing_is_told_where_the_original_only_guesses() -> None:
    assert retention(0.30, 0.30, 0.25, original_stderr=0.03) == (None, None)
    assert retention(0.25, 0.30, 0.25) == (None, None)
    assert retention(0.20, 0.30, 0.25) == (None, None)
    assert retention(0.32, 0.30, 0.25, original_stderr=0.03) != (None, None)


def test_its_error_is_that_of_repeated_draws() -> None:
    generator = torch.Generator().manual_seed(0)
    draws, items, chance = 4000, 400, 0.25
    original = torch.rand(draws, items, generator=generator) < 0.7
    kept = torch.rand(draws, items, generator=generator)
    pruned = torch.where(original, kept < 0.8, kept < 0.2)  # right on much the same questions
    values = (pruned.double().mean(1) - chance) / (original.double().mean(1) - chance)
    value, stderr = retained(_scored(original[0].int().tolist()), _scored(pruned[0].int().tolist()))
    assert value == pytest.approx(float(values[0]))
    assert stderr == pytest.approx(float(values.std()), rel=0.15)
    apart = retention(
        0.7, 0.62, chance, original_stderr=math.sqrt(0.21 / items), pruned_stderr=math.sqrt(0.62 * 0.38 / items)
    )
    assert apart[1] > 1.3 * stderr  # question by question is sharper


def test_by_task_and_over_tasks() -> None:
    right, half = [1] * 30 + [0] * 10, [1] * 20 + [0] * 20
    shares = retained_by_task({"a": _scored(right), "b": _scored(right)}, {"a": _scored(half), "c": _scored(half)})
    assert list(shares) == ["a"]
    assert shares["a"][0] == pytest.approx(0.5)
    assert retained(_scored(right), _scored(half), "exact_match") == (None, None)
    assert mean_retention([(0.5, 0.3), (0.7, 0.4), (None, None)]) == (pytest.approx(0.6), pytest.approx(0.25))
    assert mean_retention([(None, None)]) == (None, None)


def _scored(hits: list[int], chance: float = 0.25) -> Accuracy:
    mean = sum(hits) / len(hits)
    stderr = math.sqrt(mean * (1 - mean) / (len(hits) - 1))
    return Accuracy({"acc": mean, "acc_stderr": stderr, "items": len(hits), "chance": chance}, {"acc": hits})
