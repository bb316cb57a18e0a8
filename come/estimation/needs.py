"""What a request needs memory for."""

from __future__ import annotations

from come.estimation.device import Device
from come.estimation.memory import USABLE, Request
from come.estimation.recovery import recovery_work
from come.estimation.words import evaluates
from come.measurement.calibrate import default_batch_size
from come.models import Facts
from come.pruning.method import Method
from come.pruning.options import CachedPassOptions, MethodOptions, PassOptions, SelectionOptions
from come.request import RunConfig
from come.training.trainer import TrainOptions


def memory_request(
    config: RunConfig,
    facts: Facts,
    dtype: str,
    layers: int,
    method: Method | None,
    options: MethodOptions | None,
    device: Device,
) -> Request:
    """What a run's memory depends on, of a model that is left with so many layers; no method is an analysis."""
    merging = options if isinstance(options, SelectionOptions) else None
    caching = options if isinstance(options, CachedPassOptions | TrainOptions) else None
    by_hand = merging is not None and merging.windows is not None
    merges = 0
    if merging is not None:
        gone = facts.layers - layers
        merges = len(merging.windows) if merging.windows is not None else -(-gone // (merging.span - 1))
    needs = method.needs if method is not None else ()
    refits = any(work.refitted for work in recovery_work(config, facts.layers, layers))
    own = options.batch_size if isinstance(options, PassOptions) else None
    asked = own or config.batch_size or default_batch_size(config.seq_len)
    most = max(config.n_tokens, config.evaluation_tokens if evaluates(config) else 0) // config.seq_len
    return Request(
        dtype=dtype,
        n_tokens=whole(config.n_tokens, config.seq_len),
        batch_tokens=min(asked, most) * config.seq_len,
        layers=layers,
        merges=min(merges, layers),
        masked=facts.layers if method is not None and method.target == "parameters" else 0,
        refit=(options is not None and options.fits == "refit") or refits,
        tuned=options is not None and options.fits == "tune",
        keeps_borders=caching is not None and not by_hand and layers < facts.layers,
        budget=caching.memory_budget if caching is not None else None,
        span=merging.span if merging is not None else config.span,
        logits=evaluates(config) or "logits" in needs,
        logits_while_measuring="logits" in needs,
        similarity=config.similarity if method is None else (),
        spread=_spread(config, facts, dtype, device),
        saved=config.save_dtype if method is not None and config.keep_model else None,
    )


def _spread(config: RunConfig, facts: Facts, dtype: str, device: Device) -> bool:
    """Whether the layers may lie on several devices: as ``come.load`` decides where it is left to it."""
    too_large = facts.bytes_at(facts.layers, dtype) > USABLE * device.memory
    left_to_it = config.device == "auto" and device.kind == "cuda"
    return config.device == "balanced" or (left_to_it and (device.count > 1 or too_large))


def whole(n_tokens: int, seq_len: int) -> int:
    """How many of so many tokens fill sequences of that length."""
    return n_tokens // seq_len * seq_len
