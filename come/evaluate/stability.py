"""Stability: how far a pruned model answers right and wrong where the original did (Chen et al., arXiv 2403.19135).

A model can guess what it no longer knows and keep its accuracy. Stability is the share of questions that both models
answer rightly or both wrongly, each question weighing exp(sigma), sigma the standard deviation of the original's
log perplexities of the choices: of what the original was sure of it counts most that it stayed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from come.evaluate.accuracy import Accuracy
from come.evaluate.retention import Share
from come.numbers import softmax


def stability(spreads: Sequence[float], original: Sequence[int], pruned: Sequence[int]) -> Share:
    """The weighted share of questions on which two models are both right or both wrong, with its standard error.

    The error is that of a ratio of two sums over questions that are drawn at random.

    Args:
        spreads: sigma of each question, by the original.
        original, pruned: 1 or 0 for each question, whether the answer was right.

    Returns:
        (value, stderr); an error of None for a single question.
    """
    weights = softmax(spreads)
    same = [float(a == b) for a, b in zip(original, pruned, strict=True)]
    value = math.fsum(weight * each for weight, each in zip(weights, same, strict=True))
    if len(same) < 2:
        return value, None
    squares = math.fsum((weight * (each - value)) ** 2 for weight, each in zip(weights, same, strict=True))
    return value, math.sqrt(squares * len(same) / (len(same) - 1))


def stability_by_task(original: Mapping[str, Accuracy], pruned: Mapping[str, Accuracy]) -> dict[str, Share]:
    """``stability`` on each task of choices of which both models answered the same questions."""
    found = {}
    for name, after in pruned.items():
        before = original.get(name)
        if before is None or before.questions != after.questions or len(before.spreads) != after.metrics["items"]:
            continue
        found[name] = stability(before.spreads, before.hits["acc"], after.hits["acc"])
    return found
