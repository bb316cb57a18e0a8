"""What runs measured, as plain values: one `Result` a run, and one for the original model beside it.

Only numbers of results.json, and ratios of them (speed-up) or means over its tasks; a number that is not there is
left out, never filled in.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from come.numbers import softmax

SPEED_UPS = {"prefill": "prefill_tokens_per_second", "decode": "decode_tokens_per_second"}
TEXT_METRICS = ("perplexity", "bits_per_byte", "kl")
MEANS = ("accuracy", "retention", "stability")  # over tasks


@dataclass(frozen=True)
class Value:
    """One measured number.

    Attributes:
        stderr: its standard error, where it has one.
        quartiles: of what was timed in rounds, the first and third quartile.
        chance: of an accuracy, what guessing scores.
        basis: what it was taken on (tasks and items, device): only values of one basis compare.
    """

    value: float
    stderr: float | None = None
    quartiles: tuple[float, float] | None = None
    chance: float | None = None
    basis: Hashable = ()


@dataclass(frozen=True)
class Sample:
    """What a metric is the mean of: a number for each sequence of a text, or each question of a task, in order.

    Attributes:
        basis: which they are: two models' numbers pair where it is the same.
        of: what one of them is.
    """

    each: tuple[float, ...]
    basis: Hashable
    of: Literal["sequence", "question"] = "sequence"


@dataclass(frozen=True)
class Result:
    """One finished run, or the original model, as a point of a comparison.

    Attributes:
        run: its id. name: what people call it.
        method: the registered name; "original" for the model as it was.
        series: the line it belongs to: the method's title and in what it was run differently from the usual.
        layers: layers left; for methods that keep every layer, the target that they were given; None if unknown.
        removed: the share of the original's parameters that is gone.
        keeps_layers: the method left every layer; what it pruned is smaller.
        recovered: after pruning, its model was trained or refitted.
        values: by metric (see `come.report.metrics`), what was measured.
        samples: by metric, what that is the mean of, where it was kept; of a perplexity, the losses.
    """

    run: str
    name: str
    method: str
    series: str
    layers: int | None
    parameters: int
    bytes: int
    removed: float = 0.0
    seed: int = 0
    keeps_layers: bool = False
    recovered: bool = False
    values: Mapping[str, Value] = field(default_factory=dict)
    samples: Mapping[str, Sample] = field(default_factory=dict)


def values(side: Mapping[str, Any], original: Mapping[str, Any]) -> dict[str, Value]:
    """The numbers of one model of results.json, `side`, by metric; those of a task as "accuracy/<task>".

    The mean accuracy is over all of the run's tasks; a speed-up is over the original timed in the same run.
    """
    found = dict(_of_text(side)) | dict(_of_tasks(side)) | dict(_of_speed(side, original))
    if (size := _number(side.get("bytes"))) is not None:
        found["weights"] = Value(size)
    return found


def samples(side: Mapping[str, Any], original: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Sample]:
    """What the metrics of one model of results.json are means of, by metric; earlier versions kept nothing of it.

    Args:
        side, original: as for `values`.
        text: what `results.json` says of the held-out text.
    """
    found: dict[str, Sample] = {}
    basis = tuple(text.get(name) for name in ("text_hash", "split", "n_tokens", "seq_len", "seed", "bos"))
    if losses := _numbers(side.get("losses")):
        found["perplexity"] = Sample(losses, basis)
        mean, per_byte = sum(losses) / len(losses), _number(side.get("bits_per_byte"))
        if per_byte is not None and mean:
            found["bits_per_byte"] = Sample(tuple(loss * per_byte / mean for loss in losses), basis)
    if divergences := _numbers(side.get("divergences")):
        found["kl"] = Sample(divergences, basis)
    questions, before = _mapping(side, "questions"), dict(_of_tasks(original))
    for task, value in _of_tasks(side):
        kind, _, name = task.partition("/")
        hits = tuple(float(hit) for hit in str(_mapping(side, "hits").get(name) or ""))
        if not hits:
            continue
        asked = (name, questions.get(name), len(hits))
        if kind == "accuracy" and abs(sum(hits) / len(hits) - value.value) < 1e-6:
            found[task] = Sample(hits, asked, "question")
        elif kind == "retention" and (whole := before.get(f"accuracy/{name}")) is not None:
            above = whole.value - (whole.chance or 0.0)
            if above > 0:
                found[task] = Sample(tuple(hit / above for hit in hits), asked, "question")
        elif kind == "stability" and (each := _agreements(name, hits, original)):
            found[task] = Sample(each, asked, "question")
    return found


def _agreements(task: str, hits: Sequence[float], original: Mapping[str, Any]) -> tuple[float, ...]:
    """What a stability is the mean of: for each question its weight, by their mean, where both models agree, else 0."""
    before = tuple(float(hit) for hit in str(_mapping(original, "hits").get(task) or ""))
    spreads = _numbers(_mapping(original, "spreads").get(task))
    if not len(hits) == len(before) == len(spreads):
        return ()
    weights = softmax(spreads)
    return tuple(len(hits) * weight * (a == b) for weight, a, b in zip(weights, hits, before, strict=True))


def over_shared_tasks(results: Sequence[Result], originals: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """The same, with means of tasks taken over those that all results have which were scored on any.

    Without a task that all have, the means stay as they are: those on unlike tasks do not compare then.
    """
    here, whole = list(results), list(originals)
    for kind in MEANS:
        scored = [held for result in results if (held := _tasks(result, kind))]
        shared = set.intersection(*map(set, scored)) if scored else set()
        if not shared or all(set(held) == shared for held in scored):
            continue
        names = sorted(task for task, _ in shared)
        here = [_mean_over(result, kind, names) for result in here]
        whole = [_mean_over(result, kind, names) for result in whole]
    return here, whole


def tasks_of(result: Result, kind: str) -> dict[str, Hashable]:
    """The tasks of a mean (one of ``MEANS``), each with what it was taken on."""
    prefix = f"{kind}/"
    return {key.removeprefix(prefix): value.basis for key, value in result.values.items() if key.startswith(prefix)}


def _tasks(result: Result, kind: str) -> set[tuple[str, Hashable]]:
    return set(tasks_of(result, kind).items()) if kind in result.values else set()


def _mean_over(result: Result, kind: str, names: Sequence[str]) -> Result:
    held = [result.values.get(f"{kind}/{name}") for name in names]
    known = [value for value in held if value is not None]
    if kind not in result.values or len(known) < len(held):
        return result
    basis = tuple((name, value.basis) for name, value in zip(names, known, strict=True))
    return replace(result, values={**result.values, kind: _mean(known, basis)})


def seconds(results: Mapping[str, Any], recovered: bool = True) -> dict[str, Value]:
    """How long pruning took, by results.json, with what recovered the model after it; on another device it differs."""
    spent = _mapping(results, "seconds")
    pruning = _number(spent.get("compress"))
    if pruning is None:
        return {}
    recovery = _number(spent.get("recover")) if recovered else None
    return {"seconds": Value(pruning + (recovery or 0.0), basis=results.get("device"))}


def _of_text(side: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    for name in TEXT_METRICS:
        if (value := _number(side.get(name))) is not None:
            yield name, Value(value, _number(side.get(f"{name}_stderr")))


def _of_tasks(side: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    scored = {task: scores for task, scores in _mapping(side, "accuracy").items() if isinstance(scores, dict)}
    accuracies = {task: value for task, scores in scored.items() if (value := _accuracy(scores)) is not None}
    items = {task: value.basis for task, value in accuracies.items()}
    whole: Hashable = tuple(sorted(items.items(), key=str))
    for task, value in accuracies.items():
        yield f"accuracy/{task}", value
    if accuracies:
        yield "accuracy", _mean(list(accuracies.values()), whole)
    for kind in MEANS[1:]:
        for task, scores in _mapping(side, kind).items():
            share = _number(scores.get("value")) if isinstance(scores, dict) else None
            if share is not None:
                key, basis = (kind, whole) if task == "mean" else (f"{kind}/{task}", items.get(task, ()))
                yield key, Value(share, _number(scores.get("stderr")), basis=basis)


def _accuracy(scores: Mapping[str, Any]) -> Value | None:
    value = _number(scores.get("acc"))
    if value is None:
        return None
    return Value(
        value,
        _number(scores.get("acc_stderr")),
        chance=_number(scores.get("chance")) or None,
        basis=scores.get("items"),
    )


def _mean(accuracies: list[Value], basis: Hashable) -> Value:
    """The mean over tasks; they hold different questions, so their errors are independent."""
    count = len(accuracies)
    errors = [value.stderr for value in accuracies if value.stderr is not None]
    chances = [value.chance for value in accuracies if value.chance is not None]
    return Value(
        sum(value.value for value in accuracies) / count,
        math.sqrt(sum(error**2 for error in errors)) / count if len(errors) == count else None,
        chance=sum(chances) / count if len(chances) == count else None,
        basis=basis,
    )


def _of_speed(side: Mapping[str, Any], original: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    speed, before = _mapping(side, "speed"), _mapping(original, "speed")
    basis = tuple(speed.get(name) for name in ("device", "prompt_tokens", "new_tokens", "batch_size"))
    for name, rate in SPEED_UPS.items():
        now, was = _number(speed.get(rate)), _number(before.get(rate))
        if now is not None:
            yield f"{name}_rate", Value(now, quartiles=_quartiles(speed, rate), basis=basis)
        if now is not None and was and side is not original:
            yield name, Value(now / was, quartiles=_quartiles(speed, rate, was), basis=basis)
    if (first := _number(speed.get("time_to_first_token"))) is not None:
        yield "first_token", Value(first, quartiles=_quartiles(speed, "time_to_first_token"), basis=basis)
    if (peak := _number(speed.get("peak_memory_bytes"))) is not None:
        yield "peak_memory", Value(peak, basis=basis)


def _quartiles(speed: Mapping[str, Any], name: str, unit: float = 1.0) -> tuple[float, float] | None:
    spread = (_mapping(speed, "spread") or _mapping(speed, "quartiles")).get(name)
    if not isinstance(spread, list | tuple) or len(spread) != 2:
        return None
    low, high = (_number(quartile) for quartile in spread)
    return None if low is None or high is None else (low / unit, high / unit)


def _mapping(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    inner = values.get(name)
    return inner if isinstance(inner, dict) else {}


def _numbers(values: Any) -> tuple[float, ...]:
    """Finite numbers, or none where one of them is not."""
    found = [_number(value) for value in values] if isinstance(values, list | tuple) else []
    return tuple(value for value in found if value is not None) if None not in found else ()


def _number(value: Any) -> float | None:
    """A finite number, or nothing: a file may hold null, NaN or another version's words."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
