"""How long a recovery takes: by its minutes where they are given, else by the layers and heads that its steps run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from come.estimation.work import Clock
from come.pruning.schedule import BACK
from come.recovery.registry import parse
from come.request import RunConfig


def recovery_seconds(config: RunConfig, clock: Clock, layers: int) -> float:
    """Seconds for all ways that a request names, in a model that is left with so many layers."""
    if not config.recover:
        return 0.0
    # Layers that lost something: as many as are gone; where none is, every layer may have had parts silenced.
    lossy = clock.facts.layers - layers or layers
    seconds = 0.0
    for way, options in parse(config.recover, config.recover_options):
        minutes, steps = getattr(options, "minutes", None), getattr(options, "steps", None)
        tokens = config.recover_tokens // config.seq_len * config.seq_len
        learnt = steps * options.batch_tokens if steps else min(tokens, getattr(options, "most_tokens", tokens))
        work = 60 * minutes if minutes else _WORK[way.name](clock, learnt, layers, lossy)
        seconds += work + _TEACHER.get(way.name, 0) * clock.layers(clock.facts.layers, tokens)
    return seconds


_TEACHER = {"distill-mp": 1, "distill-sp": 1}
"""Ways that run the original once over all tokens, before anything is trained."""

_WORK: dict[str, Callable[[Clock, int, int, int], Any]] = {
    # The refitted layers below feed those above; a layer's window is run once for the target.
    "refit": lambda clock, tokens, layers, lossy: clock.layers(layers + 2 * lossy, tokens) + clock.refit(tokens, lossy),
    "distill-mp": lambda clock, tokens, layers, lossy: BACK * clock.layers(lossy, tokens),
    "distill-sp": lambda clock, tokens, layers, lossy: (
        BACK * clock.layers(lossy, tokens) + clock.layers(layers, tokens)
    ),
    "logits": lambda clock, tokens, layers, lossy: (
        clock.layers(clock.facts.layers + BACK * layers, tokens) + (1 + BACK) * clock.head(tokens)
    ),
    "lora": lambda clock, tokens, layers, lossy: BACK * (clock.layers(layers, tokens) + clock.head(tokens)),
    "partial": lambda clock, tokens, layers, lossy: clock.layers(layers + 2 * BACK, tokens) + BACK * clock.head(tokens),
}
