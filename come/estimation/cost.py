"""The estimate of a run: its stages one by one, its memory, its room on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.estimation.device import Device, known_device, measure_device, remember
from come.estimation.memory import memory_of
from come.estimation.needs import (
    dtype_of,
    memory_request,
    probed_choices,
    recovery_seconds,
    request_tokens,
    sampled_tokens,
    whole,
)
from come.estimation.words import assumptions_of, evaluates, offloading, warnings_of
from come.estimation.work import Clock
from come.measurement.measure import check_rules
from come.measurement.measurement import Measurement
from come.models import Facts, describe
from come.models.facts import BYTES
from come.pruning.compress import check_request
from come.pruning.forecast import Known
from come.pruning.registry import method
from come.pruning.schedule import Calibration, Schedule
from come.request import RunConfig, checked

START_SECONDS = 0.5  # importing the libraries, once they were read from disk before
TEXT_SECONDS = 0.3  # reading and tokenizing a text of some hundred thousand words
FILES_SECONDS = 0.2  # everything about loading or saving that is not weights
CONVERT_SECONDS = 1.5e-7  # a parameter, where a .gguf file is converted first
PROMPT_TOKENS, NEW_TOKENS, SPEED_ROUNDS = 256, 32, 8  # of `come.speed`, warm-ups and the look at memory included


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        seconds: all stages together; ``seconds_by_stage`` has the names that a run's results use.
        memory_bytes: the peak on the device, or on all of them together (in main memory, where that is the device).
        host_bytes: the peak in main memory.
        memory_by_part: what takes memory; not everything does at the same time.
        disk_bytes: what the run leaves on disk.
        layers: how many layers are left (of an analysis, how many there are; of a method that silences parts of
            layers, all of them).
        fits: whether device, main memory and disk hold it.
        warnings: a sentence each, with what to do.
        assumptions: what the numbers rest on, a short sentence each.
        device: what it was made for.
    """

    seconds: float
    seconds_by_stage: dict[str, float]
    memory_bytes: int
    host_bytes: int
    memory_by_part: dict[str, int]
    disk_bytes: int
    layers: int
    fits: bool
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]
    device: Device

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)


def estimate(
    config: RunConfig,
    facts: Facts | None = None,
    device: Device | None = None,
    *,
    measurement: Measurement | None = None,
    runs: Path | None = None,
    remeasure: bool = False,
) -> Estimate:
    """Time, memory and disk of a run; no weights are loaded and nothing is started.

    Args:
        config: the run.
        facts: the model's (``come.describe``), where they are at hand; then the config's model and texts are
            not looked at.
        device: what it will run on. Without one, this machine's as it was last measured, or measured now (a second).
        measurement: an analysis of the model, which tells where windows are likely to lie.
        runs: the folder of runs, for the room on its disk.
        remeasure: measure this machine's device even where it is known from an earlier time.

    Raises:
        ComeError: the run could not succeed, or the device's speed in its dtype is not known.
    """
    if facts is None:
        config, target = checked(config)
        facts = describe(config.model)
    else:
        target = _checked_for(config, facts)
    _check_lengths(config, facts)
    dtype = dtype_of(config, facts)
    if device is None:
        known = None if remeasure else known_device(dtype, config.device)
        device = known or _measured(dtype, config.device)
    wanted = target if target is not None else facts.layers
    chosen = method(config.method) if target is not None else None  # None for an analysis
    options = chosen.parse(config.options) if chosen is not None else None
    # A method that silences parts of layers leaves them all there: they are run, saved and held in memory as before.
    layers = facts.layers if chosen is not None and chosen.target == "parameters" else wanted

    request = memory_request(config, facts, dtype, layers, chosen, options, device)
    memory = memory_of(facts, device, request)
    schedule = Schedule([float(facts.layers)])
    if chosen is not None and options is not None:
        tokens = Calibration(whole(config.n_tokens, config.seq_len), config.seq_len, memory.stride)
        schedule = chosen.schedule(Known(facts, wanted, measurement), options, tokens)
    clock = Clock(facts, device, dtype, config.seq_len, request.batch_tokens // config.seq_len, memory.offloaded)
    stages = _stages(config, facts, clock, schedule, layers)
    disk = _disk(config, facts, dtype, layers, schedule)
    warnings = warnings_of(device, memory, request, disk, runs)
    slow = [offloading(memory)] if memory.offloaded else []
    return Estimate(
        seconds=sum(stages.values()),
        seconds_by_stage=stages,
        memory_bytes=memory.device,
        host_bytes=memory.host,
        memory_by_part=memory.by_part,
        disk_bytes=disk,
        layers=layers,
        fits=not warnings,
        warnings=(*warnings, *slow),
        assumptions=assumptions_of(config, facts, device, schedule, memory),
        device=device,
    )


def _measured(dtype: str, device: str) -> Device:
    found = measure_device(dtype, device=device)
    remember(found, dtype, device)
    return found


def _checked_for(config: RunConfig, facts: Facts) -> int | None:
    if config.kind == "analyze":
        if not facts.supported:
            raise ComeError(facts.reason)
        check_rules(config.span, facts.layers, config.sbi_tokens, config.last_state)
        return None
    sequences = config.n_tokens // config.seq_len
    return check_request(facts, config.method, config.target_layers, config.sparsity, config.options, sequences)


def _check_lengths(config: RunConfig, facts: Facts) -> None:
    if config.seq_len > (facts.max_position_embeddings or config.seq_len):
        raise ComeError(
            f"Sequences of {config.seq_len:,} tokens are longer than the {facts.max_position_embeddings:,} that this "
            "model reads at once.",
            f"Ask for at most {facts.max_position_embeddings:,}.",
        )
    evaluated = [config.evaluation_tokens] if evaluates(config) else []
    if (fewest := min([config.n_tokens, *evaluated])) < config.seq_len:
        raise ComeError(
            f"{fewest:,} tokens do not fill one sequence of {config.seq_len:,}.",
            "Ask for more tokens or shorter sequences.",
        )


def _stages(config: RunConfig, facts: Facts, clock: Clock, schedule: Schedule, layers: int) -> dict[str, float]:
    """Seconds by stage, in the order of a run, under the names of its results."""
    n_tokens = whole(config.n_tokens, config.seq_len)
    weights = facts.bytes_at(facts.layers, clock.dtype)
    stages = {"start": START_SECONDS}
    if not facts.converted:
        stages["convert"] = CONVERT_SECONDS * facts.parameters
    stages |= {
        "load": FILES_SECONDS + weights / clock.device.disk,
        "text": TEXT_SECONDS * (2 if evaluates(config) else 1) + clock.sampling(sampled_tokens(config)),
    }
    if clock.device.kind == "cuda":
        stages["load"] += weights / clock.device.host_bandwidth
    running = clock.schedule(schedule, n_tokens)
    if config.kind == "analyze":
        return stages | {"measure": running + clock.similarities(config.similarity, n_tokens)}
    stages["compress"] = clock.hashing() + running
    if config.recover:
        if "ppl" in config.evaluate:
            tokens = whole(config.evaluation_tokens, config.seq_len)
            stages["evaluate unrecovered"] = clock.layers(layers, tokens) + 2 * clock.head(tokens)
        stages["recover"] = recovery_seconds(config, clock, layers)
    stages |= judging(config, clock, facts.layers, layers)
    if config.keep_model:
        saved = config.save_dtype or clock.dtype
        stages["save"] = FILES_SECONDS + facts.bytes_at(layers, saved) / clock.device.disk
    return stages


def judging(config: RunConfig, clock: Clock, before: int, after: int) -> dict[str, float]:
    """Seconds for what a run finds out of its two models, by stage."""
    stages: dict[str, float] = {}
    models = (("original", before), ("pruned", after))
    if "ppl" in config.evaluate:
        tokens = whole(config.evaluation_tokens, config.seq_len)
        for which, count in models:
            # The pruned one's predictions are compared with the original's: two heads.
            heads = 1 if which == "original" else 2
            stages[f"evaluate {which}"] = clock.layers(count, tokens) + heads * clock.head(tokens)
    if "acc" in config.evaluate:
        tokens = request_tokens(config.tasks, config.task_limit)
        for which, count in models:
            stages[f"accuracy {which}"] = clock.layers(count, tokens) + clock.head(tokens)
    if probed := probed_choices(config):
        tokens = request_tokens(list(probed), config.task_limit)
        for which, count in models:
            stages[f"probe {which}"] = clock.probing(count, tokens, sum(probed.values()))
    if "speed" in config.evaluate:
        reading = sum(clock.layers(count, PROMPT_TOKENS) + clock.head(1) for _, count in models)
        writing = sum(clock.decoding(NEW_TOKENS, count) for _, count in models)
        stages["speed"] = SPEED_ROUNDS * (reading + writing)
    return stages


def _disk(config: RunConfig, facts: Facts, dtype: str, layers: int, schedule: Schedule) -> int:
    """The model, where it is kept; the weights that a plan holds; the arrays of an analysis; some kilobytes beside."""
    notes = 1_000_000
    if config.kind == "analyze":
        numbers = 3 * facts.layers * (facts.intermediate_size + facts.num_attention_heads * facts.head_dim)
        return notes + 4 * (numbers + len(config.similarity) * (facts.layers + 1) ** 2)
    moved = schedule.moved + schedule.refits * facts.hidden_size * facts.intermediate_size
    notes += BYTES[dtype] * moved
    return notes + (facts.bytes_at(layers, config.save_dtype or dtype) if config.keep_model else 0)
