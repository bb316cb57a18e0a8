"""How long a recovery takes, from the work that its ways foretell, and how long the refits of merges do."""

from __future__ import annotations

from typing import Any

from come.estimation.work import Clock, Schedule
from come.recovery.registry import parse
from come.recovery.way import RecoverySize, Work
from come.request import RunConfig
from come.transforms.refit import RefitRules
from come.transforms.ridge import MIXTURES, STRIPS

FLOAT32_SLOWER = {"cuda": 16}  # than 16 bits, where its speed is not known: no tensor cores; elsewhere half as fast


def recovery_work(config: RunConfig, original: int, layers: int) -> list[Work]:
    """What each way that a request names runs, in a model of which so many of the original's layers are left."""
    if not config.recover:
        return []
    tokens = config.recover_tokens // config.seq_len * config.seq_len
    # Layers that lost something: as many as are gone; where none is, every layer may have had parts silenced.
    size = RecoverySize(original, layers, original - layers or layers, tokens)
    return [way.work(size, options) for way, options in parse(config.recover, config.recover_options)]


def recovery_seconds(config: RunConfig, clock: Clock, layers: int) -> float:
    """Seconds for all ways that a request names, in a model that is left with so many layers."""
    return sum(
        work.seconds
        + clock.layers(work.layers, work.tokens)
        + work.heads * clock.head(work.tokens)
        + refit_seconds(clock, work.tokens, work.refitted)
        + clock.layers(clock.facts.layers, work.teacher_tokens)
        for work in recovery_work(config, clock.facts.layers, layers)
    )


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
