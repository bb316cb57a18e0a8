"""The evaluation stage of a run: perplexity, divergence, accuracy, probe and speed of the original and the pruned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from come.evaluate import (
    Accuracy,
    check_tasks,
    compare_speed,
    measure_accuracy,
    measure_divergence,
    not_probed,
    probe,
)
from come.evaluate.retention import Share, mean_retention, retained_by_task
from come.evaluate.stability import stability_by_task
from come.events import OnProgress
from come.models import Bundle
from come.models.identity import identity
from come.request import RunConfig
from come.runs.reference_cache import kept
from come.runs.results import Results, tasks_hash, text_facts
from come.runs.shared import Shared

PROMPT_TOKENS, NEW_TOKENS = 256, 32  # of a speed


def evaluate(
    config: RunConfig, original: Bundle, pruned: Bundle, results: Results, shared: Shared, on_progress: OnProgress
) -> None:
    """Evaluate both models by what the request asks for, leaving out what an interrupted run has noted already.

    Args:
        config: the request.
        original, pruned: the two models.
        results: takes the metrics.
        shared: keeps the original's held-out tokens and predictions for further runs of this process.
        on_progress: told of each stage.
    """
    evaluate_predictions(config, original, pruned, results, shared, on_progress)
    if "acc" in config.evaluate and not results.has("pruned", "accuracy"):
        _accuracies(config, original, pruned, results, on_progress)
    if "probe" in config.evaluate and not results.has("pruned", "probe"):
        _probes(config, original, pruned, results, on_progress)
    if "speed" in config.evaluate and not results.has("pruned", "speed"):
        with results.timed("speed"):
            longest = getattr(original.model.config, "max_position_embeddings", None) or PROMPT_TOKENS + NEW_TOKENS
            prompt = min(PROMPT_TOKENS, longest - NEW_TOKENS)
            ours, theirs = compare_speed(
                original, pruned, prompt_tokens=prompt, new_tokens=NEW_TOKENS, on_progress=on_progress
            )
        results.note(original={"speed": ours.metrics()}, pruned={"speed": theirs.metrics()})


def evaluate_predictions(
    config: RunConfig,
    original: Bundle,
    pruned: Bundle,
    results: Results,
    shared: Shared,
    on_progress: OnProgress,
    name: str = "pruned",
) -> None:
    """Perplexity and bits per byte of both models on held-out tokens, and the pruned one's KL divergence.

    Args:
        config, original, pruned, results, shared, on_progress: as for ``evaluate``.
        name: under which the pruned model's metrics are noted.
    """
    if "ppl" not in config.evaluate or results.has(name, "perplexity"):
        return
    held_out = shared.tokens(original, config, "evaluation", on_progress)
    results.note(evaluation=text_facts(config, "evaluation", held_out, original.tokenizer))
    with results.timed("evaluate original"):
        known, perplexity = shared.reference(original, held_out, config.batch_size, on_progress)
        results.note(original={**perplexity.metrics(), "losses": perplexity.losses})
    with results.timed(f"evaluate {name}"):
        perplexity, divergence = measure_divergence(pruned, known, on_progress=on_progress)
    each = {"losses": perplexity.losses, "divergences": divergence.each}
    results.note(**{name: {**perplexity.metrics(), **divergence.metrics(), **each}})


def _accuracies(config: RunConfig, original: Bundle, pruned: Bundle, results: Results, on_progress: OnProgress) -> None:
    """Accuracy of both by task, and how much of what the original knew above chance is left."""

    def scored(bundle: Bundle, which: str) -> dict[str, Accuracy]:
        message = f"Accuracy of the {which} model"
        return measure_accuracy(bundle, config.tasks, config.task_limit, on_progress=on_progress, message=message)

    with results.timed("accuracy original"):
        key = ("accuracy with spreads", *identity(original), tasks_hash(config.tasks), config.task_limit)
        found = kept(key, lambda: {name: asdict(each) for name, each in scored(original, "original").items()})
        before = {name: Accuracy(**each) for name, each in found.items()}
    with results.timed("accuracy pruned"):
        after = scored(pruned, "pruned")
    shares, stable = retained_by_task(before, after), stability_by_task(before, after)
    results.note(
        original={
            "accuracy": {name: each.to_results() for name, each in before.items()},
            "spreads": {name: before[name].spreads for name in stable},
        }
        | _answers(before, after),
        pruned={
            "accuracy": {name: each.to_results() for name, each in after.items()},
            "retention": {name: _share(each) for name, each in shares.items() if each[0] is not None}
            | {"mean": _share(mean_retention(list(shares.values())))},
            "stability": {name: _share(each) for name, each in stable.items()}
            | ({"mean": _share(mean_retention(list(stable.values())))} if stable else {}),
        }
        | _answers(after, after),
    )


def _probes(config: RunConfig, original: Bundle, pruned: Bundle, results: Results, on_progress: OnProgress) -> None:
    """From which layers each task is read, in both; runs of other seeds hold the same questions out."""
    left_out = not_probed(config.tasks, config.task_limit)
    tasks = [name for name in check_tasks(config.tasks) if name not in left_out]
    seed, size = config.evaluation_seed, config.batch_size

    def probed(bundle: Bundle, which: str) -> dict[str, Any]:
        if not tasks:
            return {}
        found = probe(
            bundle,
            tasks,
            config.task_limit,
            seed=seed,
            batch_size=size,
            on_progress=on_progress,
            message=f"Probe of the {which} model",
        )
        return {name: each.to_results() for name, each in found.items()}

    with results.timed("probe original"):
        key = ("probe", *identity(original), tasks_hash(tasks), config.task_limit, seed, size)
        before = kept(key, lambda: probed(original, "original"))
    with results.timed("probe pruned"):
        after = probed(pruned, "pruned")
    results.note(
        original={"probe": before},
        pruned={"probe": after},
        not_probed={Path(name).name: why for name, why in left_out.items()},
    )


def _answers(scored: Mapping[str, Accuracy], asked: Mapping[str, Accuracy]) -> dict[str, Any]:
    """Which questions were answered rightly, a 1 or 0 each by task, and the hash of those questions."""
    hits = {name: each.hits["acc"] for name, each in scored.items() if "acc" in each.hits}
    return {
        "hits": {name: "".join(map(str, answered)) for name, answered in hits.items()},
        "questions": {name: asked[name].questions for name in hits if name in asked},
    }


def _share(share: Share) -> dict[str, Any]:
    value, stderr = share
    return {} if value is None else {"value": value, "stderr": stderr}
