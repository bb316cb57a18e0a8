"""How long a recovery takes: by its minutes where they are given, else by the layers and heads that its steps run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from come.estimation.work import Clock, Schedule
from come.recovery.registry import parse
from come.request import RunConfig
from come.transforms.refit import RefitRules
from come.transforms.ridge import MIXTURES, STRIPS

BACK = 3  # forward and backward, in forwards
FLOAT32_SLOWER = {"cuda": 16}  # than 16 bits, where its speed is not known: no tensor cores; elsewhere half as fast


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


def refit_seconds(clock: Clock, n_tokens: int, count: float) -> float:
    """Seconds to refit the FFN output map of so many layers: a run of each, the sums, the ridge."""
    channels, outputs = clock.facts.intermediate_size, clock.facts.hidden_size
    strengths = len(RefitRules().strengths)
    sums = n_tokens * ((1 + 1 / STRIPS) * channels**2 + 2 * channels * outputs)
    factor = channels**3 / 3
    compared = strengths * (factor + 4 * channels**2 * min(MIXTURES, outputs)) + 2 * channels**2 * outputs
    solved = 2 * (factor + 2 * channels**2 * outputs)  # float64, at half of float32's speed
    return clock.layers(count, n_tokens) + count * (sums + compared + solved) / float32_speed(clock)


def float32_speed(clock: Clock) -> float:
    """FLOP/s of matrix products in float32, whatever the run's dtype."""
    slower = 1 if clock.dtype == "float32" else FLOAT32_SLOWER.get(clock.device.kind, 2)
    return clock.device.flops.get("float32") or clock.device.linear_speed(clock.dtype) / slower


def merge_refit_seconds(clock: Clock, schedule: Schedule, n_tokens: int, options: Any) -> float:
    """Seconds for the refits of merges; 0 for a method without, or where they are not asked for.

    After the first merge of a pass, or where windows are given, no border is at hand for what enters a window and what
    it gave: the layers between windows, taken to be spread evenly, and the window are run.
    """
    if not getattr(options, "refit", False) or not schedule.merges:
        return 0.0
    given = options.windows is not None
    again = schedule.merges - (0 if given else len(schedule.passes))
    between = clock.facts.layers / (schedule.merges / max(1, len(schedule.passes)) + 1)
    run = clock.layers(again * (options.span + between), n_tokens)
    return run + refit_seconds(clock, n_tokens, schedule.merges)


_TEACHER = {"distill-mp": 1, "distill-sp": 1}
"""Ways that run the original once over all tokens, before anything is trained."""

_WORK: dict[str, Callable[[Clock, int, int, int], Any]] = {
    # The refitted layers below feed those above; a layer's window is run once for the target.
    "refit": lambda clock, tokens, layers, lossy: (
        clock.layers(layers + 2 * lossy, tokens) + refit_seconds(clock, tokens, lossy)
    ),
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
