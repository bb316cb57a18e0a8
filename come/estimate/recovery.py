"""How long a recovery takes: by its minutes where they are given, else by the layers and heads that its steps run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from come.estimate.work import Clock
from come.recover.registry import parse
from come.runs.config import RunConfig

BACK = 3  # forward and backward, in forwards


def recovery_seconds(config: RunConfig, clock: Clock, layers: int) -> float:
    """Seconds for all ways that a request names, in a model that is left with so many layers."""
    if not config.recover:
        return 0.0
    gone = clock.facts.layers - layers
    seconds = 0.0
    for way, options in parse(config.recover, config.recover_options):
        minutes, steps = getattr(options, "minutes", None), getattr(options, "steps", None)
        tokens = config.recover_tokens // config.seq_len * config.seq_len
        learnt = steps * options.batch_tokens if steps else tokens
        work = 60 * minutes if minutes else _WORK[way.name](clock, learnt, layers, max(1, gone))
        seconds += work + _TEACHER.get(way.name, 0) * clock.layers(clock.facts.layers, tokens)
    return seconds


_TEACHER = {"distill-mp": 1, "distill-sp": 1}
"""Ways that run the original once over all tokens, before anything is trained."""

_WORK: dict[str, Callable[[Clock, int, int, int], Any]] = {
    # A lossy layer is run for its sums, its errors and its products; its window once for the target.
    "refit": lambda clock, tokens, layers, gone: clock.layers(layers + 8 * gone, tokens),
    "distill-mp": lambda clock, tokens, layers, gone: BACK * clock.layers(gone, tokens),
    "distill-sp": lambda clock, tokens, layers, gone: BACK * clock.layers(gone, tokens) + clock.layers(layers, tokens),
    "logits": lambda clock, tokens, layers, gone: (
        clock.layers(clock.facts.layers + BACK * layers, tokens) + (1 + BACK) * clock.head(tokens)
    ),
    "lora": lambda clock, tokens, layers, gone: BACK * (clock.layers(layers, tokens) + clock.head(tokens)),
    "partial": lambda clock, tokens, layers, gone: clock.layers(layers + 2 * BACK, tokens) + BACK * clock.head(tokens),
}
