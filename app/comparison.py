"""What the compare page says: which runs may be set beside each other, and the verdict in one sentence.

Plain data in, plain data out; the drawing is in `app.figures.compare`.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import come.merge
from app.figures.compare import number
from come.errors import ComeError
from come.runs import Run


@dataclass(frozen=True)
class Result:
    """One finished run, or the original model, as a point of a comparison."""

    run: str
    name: str
    method: str  # the registered name; "original" for the model as it was
    layers: int
    parameters: int
    bytes: int
    perplexity: float
    stderr: float | None = None


@dataclass(frozen=True)
class Entry:
    """A run in the list: what it measured, or why it cannot be compared.

    Attributes:
        key: runs compare when it is the same: model, evaluation text by its hash, how much of it.
        title: model and evaluation text in words.
        reason: why there is nothing to compare; "" where there is.
    """

    run: Run
    name: str
    method: str
    key: tuple[Any, ...]
    title: str
    pruned: Result | None
    original: Result | None
    reason: str


def entry(run: Run) -> Entry | None:
    """A run as the compare page sees it; None for an analysis and for a directory that holds no run."""
    try:
        config = run.config
    except ComeError:
        return None
    if config.kind != "compress":
        return None
    state, results = run.state(), run.results()
    evaluation = results.get("evaluation") or {}
    text = str(evaluation.get("text", config.evaluation_text or config.text))
    tokens = int(evaluation.get("n_tokens", config.evaluation_tokens))
    key = (config.model, evaluation.get("text_hash", text), tokens, evaluation.get("seq_len", config.seq_len))
    name = run_name(run)
    pruned = _result(run.id, name, config.method, results.get("pruned"))
    original = _result(run.id, "original", "original", results.get("original"))
    reason = ""
    if state.status != "done":
        reason = {"queued": "waits for its turn", "running": "still running"}.get(state.status, state.status)
    elif pruned is None:
        reason = "measured no perplexity"
    title = f"{_short(config.model)}, {tokens:,} tokens of {_short(text)}"
    return Entry(run, name, config.method, key, title, pruned if not reason else None, original, reason)


def run_name(run: Run) -> str:
    """What the visitor called a run, else what it does: "CoMe, 27 layers"."""
    config = run.config
    if config.name:
        return config.name
    if config.kind == "analyze":
        return f"Analysis of {_short(config.model)}"
    known = come.merge.methods().get(config.method)
    title = known.title if known else config.method
    layers = (run.results().get("pruned") or {}).get("layers") or config.target_layers
    if layers is not None:
        return f"{title}, {layers} layers"
    return f"{title}, −{config.sparsity:.0%}" if config.sparsity is not None else f"{title}, windows by hand"


def groups(entries: Sequence[Entry]) -> dict[tuple[Any, ...], list[Entry]]:
    """The entries that can be compared, by what makes them comparable; the order of `entries` is kept."""
    found: dict[tuple[Any, ...], list[Entry]] = {}
    for item in entries:
        if item.pruned is not None:
            found.setdefault(item.key, []).append(item)
    return found


def of_model(runs: Sequence[Run], model: str) -> list[Entry]:
    """The comparable runs of one model: those on the evaluation text that has most of them."""
    found = groups([item for item in map(entry, runs) if item and item.run.config.model == model])
    return max(found.values(), key=len, default=[])


def left_out(entries: Sequence[Entry], key: tuple[Any, ...] | None) -> list[tuple[Entry, str]]:
    """The runs that are not set beside those of `key`, each with the reason."""
    return [
        (item, item.reason or f"another model or text: {item.title}")
        for item in entries
        if item.pruned is None or item.key != key
    ]


def verdict(results: Sequence[Result], original: Result | None, titles: dict[str, str]) -> str:
    """What the runs say, in one or two sentences.

    Speaks of the size at which most methods were run (of several, the largest). `titles` names the methods.
    """
    if not results:
        return "No finished run to compare yet."
    sizes = sorted({result.layers for result in results}, reverse=True)
    layers = max(sizes, key=lambda size: len({r.method for r in results if r.layers == size}))
    best_of = best_per_method([result for result in results if result.layers == layers])
    told = [f"{_title(r, titles)} has perplexity {number(r.perplexity)}" for r in best_of[:1]]
    told += [f"{_title(r, titles)} {number(r.perplexity)}" for r in best_of[1:]]
    first = f"At {layers} layers {', '.join(told)}"
    first += f"; the original has {number(original.perplexity)}." if original else "."
    return f"{first} {_judgement(best_of, original, titles)}".strip()


def best_per_method(results: Sequence[Result]) -> list[Result]:
    """The best run of each method, CoMe first, then from best to worst."""
    best: dict[str, Result] = {}
    for result in sorted(results, key=lambda r: r.perplexity):
        best.setdefault(result.method, result)
    return sorted(best.values(), key=lambda r: (r.method != "come", r.perplexity))


def to_csv(results: Sequence[Result], original: Result | None) -> str:
    """The table as CSV: one line a run, the original first."""
    out = io.StringIO()
    fields = ["run", "name", "method", "layers", "parameters", "bytes", "perplexity", "stderr"]
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*fields[:-1], "perplexity_stderr"])
    for result in [*([original] if original else []), *results]:
        values = [getattr(result, name) for name in fields]
        writer.writerow(["" if value is None else value for value in values])
    return out.getvalue()


def _judgement(best_of: Sequence[Result], original: Result | None, titles: dict[str, str]) -> str:
    if len(best_of) < 2:
        cost = best_of[0].perplexity / original.perplexity if original else 0.0
        return f"That is {cost:.1f} times the original's; run another method to see whether it is good." if cost else ""
    ranked = sorted(best_of, key=lambda result: result.perplexity)
    first, second = ranked[0], ranked[1]
    if number(first.perplexity) == number(second.perplexity):
        return f"On this text {_title(first, titles)} and {_title(second, titles)} come out even."
    merges = {"come", "come-p"}
    if first.method in merges and not any(result.method in merges for result in ranked[1:]):
        better = "merging is better than removal"
    elif first.method == "shortgpt" and any(result.method in merges for result in ranked):
        better = "removal is better"
    else:
        better = f"{_title(first, titles)} is better"
    near = first.stderr and second.stderr and second.perplexity - first.perplexity < first.stderr + second.stderr
    return f"On this text {better}{', though the error bars overlap' if near else ''}."


def _title(result: Result, titles: dict[str, str]) -> str:
    return titles.get(result.method, result.method)


def _result(run: str, name: str, method: str, values: dict[str, Any] | None) -> Result | None:
    if not values or not values.get("perplexity"):
        return None
    stderr = values.get("perplexity_stderr")
    return Result(
        run=run,
        name=name,
        method=method,
        layers=int(values["layers"]),
        parameters=int(values["parameters"]),
        bytes=int(values.get("bytes", 0)),
        perplexity=float(values["perplexity"]),
        stderr=float(stderr) if stderr else None,
    )


def _short(name: str) -> str:
    """The last part of a path or hub id."""
    return name.rstrip("/").rsplit("/", 1)[-1]
