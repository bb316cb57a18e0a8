"""What the hub reads at the head of a model card: where the model comes from, its license, and its results."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from come.models.facts import license_of
from come.models.source import hub_id
from come.numbers import perplexity_text
from come.plan.plan import Plan

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

RELATION = "finetune"
"""How a pruned model stands to its base. The hub knows finetune, adapter, merge (of several models) and quantized, and
none for pruning: finetune is its word for weights that were changed and kept their precision."""

TASK = "text-generation"


def metadata(source: str, plan: Plan | None, results: Mapping[str, Any] | None, name: str) -> ModelCardData:
    """The head of a card.

    Args:
        source: what the base model was loaded by; named where the hub has it.
        plan: how the model was pruned, if it was.
        results: a run's results.json. In each result the pruned model's value is the value, and the original's stands
            in the metric's name, so that nobody takes that for this model's.
        name: what the model is called, beside its results.
    """
    from huggingface_hub import ModelCardData

    found = list(eval_results(results or {}))
    return ModelCardData(
        library_name="transformers",
        pipeline_tag=TASK,
        license=_license(source),
        base_model=hub_id(source) or None,
        base_model_relation=RELATION if plan is not None and hub_id(source) else None,
        tags=["come", "layer-pruning", *(["pruned"] if plan is not None else [])],
        model_name=name if found else None,  # it is a part of the results
        eval_results=found or None,
    )


def with_metadata(card: str, data: ModelCardData) -> str:
    """The card with another head."""
    body = re.sub(r"\A---\n.*?\n---\n", "", card, count=1, flags=re.DOTALL)
    return f"---\n{data.to_yaml()}\n---\n{body}"


def eval_results(results: Mapping[str, Any]) -> Iterator[EvalResult]:
    """The pruned model's perplexity and its accuracy by task, of results.json, as a card's model-index has them."""
    from huggingface_hub import EvalResult

    before, after = results.get("original") or {}, results.get("pruned") or {}
    if (perplexity := after.get("perplexity")) is not None:
        known = before.get("perplexity")
        beside = "" if known is None else f" (original: {perplexity_text(known, '.2f')})"
        yield EvalResult(
            task_type=TASK,
            **_text(results.get("evaluation") or {}),
            metric_type="perplexity",
            metric_value=perplexity,
            metric_name=f"Perplexity{beside}",
        )
    for task, scores in (after.get("accuracy") or {}).items():
        if (accuracy := scores.get("acc")) is None:  # lm-eval scores some tasks by other metrics
            continue
        yield EvalResult(
            task_type=TASK,
            dataset_type=task,
            dataset_name=task,
            dataset_args={"questions": scores.get("items"), "chance": scores.get("chance")},
            metric_type="accuracy",
            metric_value=accuracy,
            metric_name=f"Accuracy (original: {percent((before.get('accuracy') or {}).get(task) or {})})",
        )


def percent(scores: Mapping[str, float]) -> str:
    """A task's accuracy as people read it."""
    return f"{scores['acc']:.1%}" if "acc" in scores else "unknown"


def _text(text: Mapping[str, Any]) -> dict[str, Any]:
    """The held-out text as a data set: the hub's own where it is one of those, told apart by a hash where it is not."""
    from come.text.hub import SETS

    name = text.get("text") or "held-out text"
    known = SETS.get(name)
    details = ("n_tokens", "seq_len", "seed", "text_hash")
    return {
        "dataset_type": known.repo if known else name,
        "dataset_name": known.title if known else name,
        "dataset_config": known.config if known else None,
        "dataset_split": (known.evaluation or known.calibration) if known else text.get("split"),
        "dataset_args": {key: text[key] for key in details if text.get(key) is not None},
    }


def _license(source: str) -> str | None:
    """The base model's license, as far as it is a word that the hub can know."""
    told = license_of(source).strip("'\" ")
    return told if re.fullmatch(r"[a-z0-9][a-z0-9.+-]*", told) else None
