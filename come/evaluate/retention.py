"""How much of what a model knew above chance is left: (pruned - chance) / (original - chance)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from come.evaluate.accuracy import Accuracy

ABOVE_CHANCE = 2.0  # standard errors by which the original must beat chance for a share of that to mean anything

Share = tuple[float | None, float | None]


def retention(
    original: float,
    pruned: float,
    chance: float,
    original_stderr: float = 0.0,
    pruned_stderr: float = 0.0,
    covariance: float = 0.0,
) -> Share:
    """The share of an accuracy above chance that is left after pruning, with its standard error.

    The error is the delta method's: with r the retention, d = original - chance,
    se² = (pruned_stderr² + r² original_stderr² - 2 r covariance) / d².

    Args:
        original, pruned: accuracies of the two models.
        chance: the accuracy of guessing.
        original_stderr, pruned_stderr: their standard errors.
        covariance: of the two accuracies, where both models answered the same questions; 0 gives the error of two
            independent samples, which is too large then.

    Returns:
        (value, stderr), or (None, None) where the original is not above chance by ``ABOVE_CHANCE`` standard errors.
    """
    above = original - chance
    if above <= 0 or above <= ABOVE_CHANCE * original_stderr:
        return None, None
    value = (pruned - chance) / above
    variance = pruned_stderr**2 + value**2 * original_stderr**2 - 2 * value * covariance
    return value, math.sqrt(max(variance, 0.0)) / above


def retained(original: Accuracy, pruned: Accuracy, metric: str = "acc") -> Share:
    """``retention`` on one task; question by question where both models answered the same ones.

    (None, None) too where the task has no such metric.
    """
    if metric not in original.metrics or metric not in pruned.metrics:
        return None, None
    return retention(
        original.metrics[metric],
        pruned.metrics[metric],
        original.metrics["chance"],
        original.metrics.get(f"{metric}_stderr", 0.0),
        pruned.metrics.get(f"{metric}_stderr", 0.0),
        _covariance(original.hits.get(metric, []), pruned.hits.get(metric, [])),
    )


def retained_by_task(
    original: Mapping[str, Accuracy], pruned: Mapping[str, Accuracy], metric: str = "acc"
) -> dict[str, Share]:
    """``retained`` on each task that both models were scored on."""
    return {name: retained(original[name], pruned[name], metric) for name in pruned if name in original}


def mean_retention(shares: Sequence[Share]) -> Share:
    """The mean over tasks with its standard error, over those tasks where a retention could be told.

    Tasks hold different questions, so their errors are independent: se = sqrt(sum of se²) / tasks.
    """
    known = [(value, stderr or 0.0) for value, stderr in shares if value is not None]
    if not known:
        return None, None
    return (
        sum(value for value, _ in known) / len(known),
        math.sqrt(sum(stderr**2 for _, stderr in known)) / len(known),
    )


def _covariance(original: Sequence[int], pruned: Sequence[int]) -> float:
    """The covariance of two means over the same questions; 0 where they are not the same."""
    count = len(original)
    if count < 2 or count != len(pruned):
        return 0.0
    left, right = sum(original) / count, sum(pruned) / count
    return sum((a - left) * (b - right) for a, b in zip(original, pruned, strict=True)) / (count - 1) / count
