"""What a request needs memory for."""

from __future__ import annotations

from typing import Any

from come.estimation.device import Device
from come.estimation.memory import USABLE, Request
from come.estimation.recovery import recovery_work
from come.estimation.words import evaluates
from come.measurement.calibrate import default_batch_size
from come.models import Facts
from come.pruning.choice import SelectionOptions
from come.pruning.registry import method
from come.request import RunConfig

SCORING = ("sleb", "taylor", "finercut", "fisher")  # methods that look at the loss or the logits


def memory_request(config: RunConfig, facts: Facts, dtype: str, layers: int, options: Any, device: Device) -> Request:
    """What a run's memory depends on, of a model that is left with so many layers."""
    concatenates = isinstance(options, SelectionOptions)
    by_hand = concatenates and options.windows is not None
    merges = 0
    if concatenates:
        merges = len(options.windows) if by_hand else -(-(facts.layers - layers) // (options.span - 1))
    scores = hasattr(options, "granularity") or config.method in SCORING
    refits = any(work.refitted for work in recovery_work(config, facts.layers, layers))
    asked = getattr(options, "batch_size", None) or config.batch_size or default_batch_size(config.seq_len)
    most = max(config.n_tokens, config.evaluation_tokens if evaluates(config) else 0) // config.seq_len
    return Request(
        dtype=dtype,
        n_tokens=whole(config.n_tokens, config.seq_len),
        batch_tokens=min(asked, most) * config.seq_len,
        layers=layers,
        merges=min(merges, layers),
        masked=facts.layers if method(config.method).target == "parameters" and config.kind == "compress" else 0,
        refit=getattr(options, "refit", False) or refits,
        tuned=getattr(options, "tune", False),
        keeps_borders=hasattr(options, "memory_budget") and not by_hand and layers < facts.layers,
        budget=getattr(options, "memory_budget", None),
        span=getattr(options, "span", config.span),
        logits=evaluates(config) or scores,
        logits_while_measuring=scores,
        similarity=config.similarity if config.kind == "analyze" else (),
        spread=_spread(config, facts, dtype, device),
        saved=config.save_dtype if config.kind == "compress" and config.keep_model else None,
    )


def _spread(config: RunConfig, facts: Facts, dtype: str, device: Device) -> bool:
    """Whether the layers may lie on several devices: as ``come.load`` decides where it is left to it."""
    too_large = facts.bytes_at(facts.layers, dtype) > USABLE * device.memory
    left_to_it = config.device == "auto" and device.kind == "cuda"
    return config.device == "balanced" or (left_to_it and (device.count > 1 or too_large))


def whole(n_tokens: int, seq_len: int) -> int:
    """How many of so many tokens fill sequences of that length."""
    return n_tokens // seq_len * seq_len
