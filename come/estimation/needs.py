"""What a request asks of a machine: memory, the tokens of questions, the work of its recovery."""

from __future__ import annotations

import math
from collections.abc import Sequence

from come.errors import ComeError
from come.estimation.device import Device
from come.estimation.memory import USABLE, Request
from come.estimation.words import evaluates
from come.estimation.work import Clock
from come.evaluate import not_probed
from come.evaluate.tasks import check_tasks, questions_at_hand
from come.measurement.calibrate import default_batch_size
from come.models import Facts
from come.models.facts import BYTES
from come.pruning.method import Method
from come.pruning.options import CachedPassOptions, MethodOptions, PassOptions, RemovalOptions, SelectionOptions
from come.recovery.registry import parse
from come.recovery.way import RecoverySize, Work
from come.request import RunConfig
from come.text import SELF
from come.training.trainer import TrainOptions


def dtype_of(config: RunConfig, facts: Facts) -> str:
    """The dtype that a run loads a model in.

    Raises:
        ComeError: it is that of the model's files, and none that is worked in.
    """
    dtype = config.dtype if config.dtype != "auto" else facts.dtype
    if dtype not in BYTES:
        raise ComeError(f"The weights of {facts.title} are stored in {dtype}.", f"Choose from {', '.join(BYTES)}.")
    return dtype


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
    removing = isinstance(options, RemovalOptions) and options.refit
    by_hand = merging is not None and merging.windows is not None
    merges = 0
    if merging is not None:
        gone = facts.layers - layers
        merges = len(merging.windows) if merging.windows is not None else -(-gone // (merging.span - 1))
    refits = any(work.refitted for work in recovery_work(config, facts.layers, layers))
    needs = method.needs_with(options) if method is not None and options is not None else ()
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
        eliminated=options.eliminated(facts, facts.layers - layers + 1) if options is not None else 0,
        keeps_borders=((caching is not None and not by_hand) or removing) and layers < facts.layers,
        budget=caching.memory_budget if caching is not None else None,
        span=merging.span if merging is not None else config.span,
        scoring_tokens=_predicted(options, config),
        gradients="gradients" in needs,
        logits=evaluates(config) or "logits" in needs,
        logits_while_measuring="logits" in needs,
        similarity=config.similarity if method is None else (),
        spread=_spread(config, facts, dtype, device),
        probed_choices=max(probed_choices(config).values(), default=0),
        saved=config.save_dtype if method is not None and config.keep_model else None,
    )


def _predicted(options: MethodOptions | None, config: RunConfig) -> int:
    """On how many tokens the original's predictions are kept while windows are chosen."""
    if not isinstance(options, SelectionOptions) or options.select != "kl":
        return 0
    return options.scoring_sequences(config.n_tokens // config.seq_len) * config.seq_len


def _spread(config: RunConfig, facts: Facts, dtype: str, device: Device) -> bool:
    """Whether the layers may lie on several devices: as ``come.load`` decides where it is left to it."""
    too_large = facts.bytes_at(facts.layers, dtype) > USABLE * device.memory
    left_to_it = config.device == "auto" and device.kind == "cuda"
    return config.device == "balanced" or (left_to_it and (device.count > 1 or too_large))


def whole(n_tokens: int, seq_len: int) -> int:
    """How many of so many tokens fill sequences of that length."""
    return n_tokens // seq_len * seq_len


def sampled_tokens(config: RunConfig) -> int:
    """How many tokens the model has to say itself for a run, before it can be measured on them or learn from them."""
    asked = {config.text_of(use) for use in config.uses}
    return sum(whole(n_tokens, config.seq_len) for text, n_tokens, _, _ in asked if text == SELF)


CHARACTERS_A_TOKEN = 4.0
GUESSED_TOKENS = 1000 * 4 * 80  # of a task whose data are not at hand: a thousand questions of four choices


def request_tokens(tasks: Sequence[str], limit: int | None) -> int:
    """The tokens of all choices with their questions before them; a task that is not at hand is guessed."""
    total = 0.0
    for questions in map(questions_at_hand, check_tasks(tasks)):
        if questions is None:
            total += GUESSED_TOKENS * min(1.0, limit / 1000 if limit else 1.0)
            continue
        asked = questions[:limit]
        total += sum(len(each.question) + len(choice) for each in asked for choice in each.choices) / CHARACTERS_A_TOKEN
    return round(total)


def probed_choices(config: RunConfig) -> dict[str, int]:
    """How many choices a run's probe reads of each of its tasks; nothing of those that it leaves out."""
    if config.kind != "compress" or "probe" not in config.evaluate:
        return {}
    left_out, found = not_probed(config.tasks, config.task_limit), dict[str, int]()
    for name in check_tasks(config.tasks):
        if name not in left_out and (questions := questions_at_hand(name)):
            found[name] = sum(len(each.choices) for each in questions[: config.task_limit])
    return found


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
        + _writing_seconds(work, clock, layers)
        for work in recovery_work(config, clock.facts.layers, layers)
    )


def _writing_seconds(work: Work, clock: Clock, layers: int) -> float:
    """Seconds for a pruned model of so many layers to write what it is trained on, round after round."""
    if not work.written:
        return 0.0
    at_once = max(clock.seq_len, min(work.written, work.at_once))
    return math.ceil(work.written / at_once) * clock.sampling(at_once, layers)
