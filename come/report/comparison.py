"""Which runs may be set beside each other, and what each is called."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import come
from come.errors import ComeError
from come.report.measured import Result, samples, seconds, values
from come.request import RunConfig
from come.runs import Run

BEFORE = ", before recovery"  # behind a run's name, where it stands for the model as it was then
# Options that change how a result is come by, not what it is.
PRACTICAL = ("batch_size", "memory_budget", "seed")
WINDOWS = ("windows", "ratios", "drop")  # options that are a plan of their own
LONG = 30  # characters of the windows of such a plan, where several are told apart by them


@dataclass(frozen=True)
class Entry:
    """A run in the list: what it measured, or why it cannot be compared.

    Attributes:
        key: runs compare when it is the same: model, evaluation text by its hash, how much of it.
        title: model and evaluation text in words.
        sweep: the sweep that it belongs to, if it does.
        reason: why there is nothing to compare; "" where there is.
    """

    run: Run
    name: str
    method: str
    key: tuple[Any, ...]
    title: str
    sweep: str
    pruned: Result | None
    original: Result | None
    reason: str


def entries(runs: Sequence[Run]) -> list[Entry]:
    """Runs as the compare page sees them; one that recovered its model is there twice, with and without that."""
    found = []
    for run in runs:
        item = entry(run)
        if item is None:
            continue
        found.append(item)
        if item.pruned is not None and run.config.recover and (before := entry(run, recovered=False)) is not None:
            found.append(before)
    return found


def entry(run: Run, recovered: bool = True) -> Entry | None:
    """A run as the compare page sees it; None for an analysis. Of one that cannot be read, why.

    Args:
        run: the run.
        recovered: of one that recovered its model: as it was after that, not before.
    """
    try:
        run.check()
        config = run.config
    except ComeError as error:
        return Entry(run, run.id, "", (), "", "", None, None, f"unreadable: {error.what}")
    if config.kind != "compress":
        return None
    state, results = run.state(), run.results()
    original, pruned = results.get("original") or {}, results.get("pruned" if recovered else "unrecovered") or {}
    layers, text = _layers(run, config, pruned), results.get("evaluation") or {}
    name = _name(config, layers) + ("" if recovered else BEFORE)
    known = _result(run.id, name, config, "original", "original", original, original, original.get("layers"), text)
    result = _result(run.id, name, config, config.method, series(config, recovered), pruned, original, layers, text)
    if result is not None:
        result = replace(
            result,
            recovered=recovered and bool(config.recover),
            values={**result.values, **seconds(results, recovered)},
        )
    reason = ""
    if state.status != "done":
        reason = {"queued": "waits for its turn", "running": "still running"}.get(state.status, state.status)
        reason += f": {state.error}" if state.error else ""
    elif result is None or not set(result.values) - {"weights", "seconds"}:
        reason = "nothing was evaluated"
    key, title = _compared_on(config, results)
    return Entry(run, name, config.method, key, title, config.sweep, None if reason else result, known, reason)


def run_name(run: Run) -> str:
    """What the visitor called a run, else what it does: "CoMe, 27 layers"."""
    config = run.config
    return _name(config, _layers(run, config, run.results().get("pruned") or {}))


def series(config: RunConfig, recovered: bool = True) -> str:
    """The line that a run belongs to: its method, and the options that are not the defaults: "CoMe (exponent 2.0)".

    Runs of one series at one size differ in their seed alone, as far as that can be told from one run; `groups`
    adds text and dtype where runs differ in them. What recovered a model after pruning stands behind a plus.
    """
    known = come.methods().get(config.method)
    defaults = known.defaults() if known else {}
    words = [
        _option(name, value)
        for name, value in sorted(config.options.items())
        if name not in PRACTICAL + WINDOWS and (name not in defaults or value != defaults[name])
    ]
    title = _title(config.method) + _chosen(config)
    title = f"{title} ({', '.join(words)})" if words else title
    return " + ".join([title, *config.recover]) if recovered else title


def short(name: str) -> str:
    """The last part of a path or hub id."""
    return name.rstrip("/").rsplit("/", 1)[-1]


def count(entries: Sequence[Entry]) -> str:
    """How many runs they are of, in words; one that recovered its model is two entries."""
    runs = len({item.run.id for item in entries})
    return f"{runs} run{'' if runs == 1 else 's'}"


def groups(entries: Sequence[Entry]) -> dict[tuple[Any, ...], list[Entry]]:
    """The entries that can be compared, by what makes them comparable; the order of `entries` is kept."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for item in entries:
        if item.pruned is not None:
            found.setdefault(item.key, []).append(item)
    return {key: _plans_told_apart(_told_apart(items)) for key, items in found.items()}


def of_model(runs: Sequence[Run], model: str) -> list[Entry]:
    """The comparable runs of one model: those on the evaluation text that has most of them."""
    found = groups([item for item in entries(runs) if item.pruned is not None and item.run.config.model == model])
    return max(found.values(), key=len, default=[])


def left_out(entries: Sequence[Entry], key: tuple[Any, ...] | None) -> list[tuple[Entry, str]]:
    """The runs that are not set beside those of `key`, each with the reason."""
    return [
        (item, item.reason or f"another model or text: {item.title}")
        for item in entries
        if item.pruned is None or item.key != key
    ]


def _compared_on(config: RunConfig, results: dict[str, Any]) -> tuple[tuple[Any, ...], str]:
    """What makes runs comparable, and the same in words."""
    evaluation = results.get("evaluation")
    model = short(config.model)
    if not isinstance(evaluation, dict):
        if "ppl" not in config.evaluate:
            return (config.model, None), f"{model}, no text"
        evaluation = {}
    text = str(evaluation.get("text", config.evaluated_on))
    tokens = int(evaluation.get("n_tokens", config.evaluation_tokens))
    bos = evaluation.get("bos")  # older runs, which say nothing of it, had none
    key = (config.model, evaluation.get("text_hash", text), tokens, evaluation.get("seq_len", config.seq_len), bos)
    return key, f"{model}, judged on {tokens:,} tokens of {short(text)}{_with(bos)}"


def _told_apart(items: list[Entry]) -> list[Entry]:
    """The same entries; runs calibrated on another text, or in another dtype, than most become series of their own."""
    settings = [(*_calibration(item.run), item.run.config.dtype) for item in items]
    usual = [Counter(column).most_common(1)[0][0] for column in zip(*settings, strict=True)]
    return [
        _renamed(item, [word for word, common in zip(own, usual, strict=True) if word != common])
        for item, own in zip(items, settings, strict=True)
    ]


def _plans_told_apart(items: list[Entry]) -> list[Entry]:
    """The same entries; those of one series that were given different windows become series of their own."""
    plans = [_given(item.run.config) for item in items]
    known: dict[str, list[str]] = {}
    for item, plan in zip(items, plans, strict=True):
        if plan and item.pruned is not None and plan not in known.setdefault(item.pruned.series, []):
            known[item.pruned.series].append(plan)
    told = []
    for item, plan in zip(items, plans, strict=True):
        alike = known.get(item.pruned.series, []) if item.pruned is not None and plan else []
        words = _plan_words(item.run.config) if len(alike) > 1 else ""
        others = [other.run.config for other, given in zip(items, plans, strict=True) if given in alike]
        if words and len({_given(config) for config in others if _plan_words(config) == words}) > 1:
            words = f"{words}, no. {alike.index(plan) + 1}"
        told.append(_renamed(item, [words] if words else []))
    return told


def _given(config: RunConfig) -> str:
    """The plan that a request gives itself, as one text; "" where the method chooses, or what was measured did."""
    if config.windows_by_cost:
        return ""
    given = {name: config.options[name] for name in WINDOWS if config.options.get(name) is not None}
    return json.dumps(given) if given else ""


def _plan_words(config: RunConfig) -> str:
    """A plan's windows and dropped layers, in a few words."""
    windows = [f"{first}–{last}" for first, last in config.options.get("windows") or ()]
    words = ", ".join([*windows, *(f"without {layer}" for layer in config.options.get("drop") or ())])
    return words if len(words) <= LONG else f"{words[:LONG].rpartition(',')[0]}, …"


def _chosen(config: RunConfig) -> str:
    """Behind a method's title: who chose its windows, where the method did not."""
    if config.windows_by_cost:
        return ", windows by measured cost"
    return ", windows by hand" if _given(config) else ""


def _calibration(run: Run) -> tuple[str, str]:
    """What a run was calibrated on: how many tokens, and of what."""
    config, told = run.config, run.results().get("calibration")
    bos = told.get("bos") if isinstance(told, dict) else None
    return f"{config.n_tokens:,} tokens", f"on {short(config.text)}{_with(bos)}"


def _with(bos: str | None) -> str:
    return " with BOS" if bos else ""


def _renamed(item: Entry, words: list[str]) -> Entry:
    if not words or item.pruned is None:
        return item
    return replace(item, pruned=replace(item.pruned, series=f"{item.pruned.series}, {', '.join(words)}"))


def _layers(run: Run, config: RunConfig, pruned: dict[str, Any]) -> int | None:
    """How many layers are left; of a method that keeps all, those of the model whose size it was to hit."""
    if _leaves_fewer(config.method):
        return pruned.get("layers") or config.target_layers
    if config.target_layers is None and pruned:
        with suppress(ComeError):  # a target given as a share is in layers in the plan
            plan = run.plan()
            target = plan.options.get("target_layers") if plan else None
            return target if isinstance(target, int) else None
    return config.target_layers


def _name(config: RunConfig, layers: int | None) -> str:
    if config.name:
        return config.name
    if config.kind == "analyze":
        return f"Analysis of {short(config.model)}"
    if layers is not None:
        size = "layers" if _leaves_fewer(config.method) else "layers' size"
        return f"{_title(config.method)}{_chosen(config)}, {layers} {size}"
    title = _title(config.method)
    return f"{title}, −{config.sparsity:.0%}" if config.sparsity is not None else f"{title}{_chosen(config)}"


def _result(
    run: str,
    name: str,
    config: RunConfig,
    method: str,
    line: str,
    side: dict[str, Any],
    original: dict[str, Any],
    layers: int | None,
    text: dict[str, Any],
) -> Result | None:
    if not side.get("parameters"):
        return None
    parameters = int(side["parameters"])
    whole = int(original.get("parameters") or parameters)
    return Result(
        run=run,
        name=name,
        method=method,
        series=line,
        layers=layers,
        parameters=parameters,
        bytes=int(side.get("bytes") or 0),
        removed=1 - parameters / whole,
        seed=seed if isinstance(seed := config.options.get("seed"), int) else config.seed,
        keeps_layers=method != "original" and not _leaves_fewer(method),
        values=values(side, original),
        samples=samples(side, original, text),
    )


def _option(name: str, value: Any) -> str:
    """An option that is not the default, in a word or two."""
    words = name.replace("_", " ")
    if isinstance(value, bool):
        return words if value else words.removeprefix("no ") if words.startswith("no ") else f"no {words}"
    if isinstance(value, list | tuple):
        each = ("–".join(map(str, one)) if isinstance(one, list | tuple) else str(one) for one in value)
        return f"{words} {' '.join(each)}"
    return f"{words} {value}"


def _leaves_fewer(method: str) -> bool:
    """Whether a method leaves fewer layers, as most do, or keeps them all and makes them smaller."""
    known = come.methods().get(method)
    return known is None or known.target == "layers"


def _title(method: str) -> str:
    known = come.methods().get(method)
    return known.title if known else method
