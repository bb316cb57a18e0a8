"""Made-up predictions of what-if, from a formula."""

from __future__ import annotations

import math
from typing import Any

from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Question


def answer(layers: int = 6, losses: tuple[float, ...] = (2.0, 2.2, 2.1, 2.3), **more: Any) -> Answer:
    """An answer of some model with that many layers."""
    mean = sum(losses) / len(losses)
    values = {
        "layers": layers,
        "parameters": 1_000_000 * (layers + 4),
        "bytes": 2_000_000 * (layers + 4),
        "speed_up": 10 / (layers + 4),
        "perplexity": math.exp(mean),
        "perplexity_stderr": 0.5,
        "bits_per_byte": 1.0,
        "bits_per_byte_stderr": 0.1,
        "kl": 0.0 if layers == 6 else 0.25,
        "kl_stderr": 0.01,
        "losses": losses,
        "divergences": tuple(0.1 for _ in losses),
        "perplexity_halves": (8.0, 9.0),
        "kl_halves": (0.1, 0.1),
        "tokens": 1016,
        "start": 2,
        "seconds": 1.3,
    }
    return Answer(**values | more)


def worse(layers: int, by: float) -> Answer:
    return answer(layers, (2.0 + by, 2.2 + by, 2.1 + 1.1 * by, 2.3 + 1.1 * by))


def of_question(question: Question) -> Answer:
    """Made-up truth: each layer less costs a tenth of a nat a token."""
    gone = sum(merge.last - merge.first for merge in question.merges) + len(question.dropped)
    return worse(6 - gone, 0.1 * gone) if gone else answer()
