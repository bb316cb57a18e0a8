"""How long a recovery takes, from the work that its ways foretell."""

from __future__ import annotations

from come.estimation.work import Clock
from come.recovery.registry import parse
from come.recovery.way import RecoverySize, Work
from come.request import RunConfig


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
        + clock.refit(work.tokens, work.refitted)
        + clock.layers(clock.facts.layers, work.teacher_tokens)
        for work in recovery_work(config, clock.facts.layers, layers)
    )
