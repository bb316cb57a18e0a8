"""The model card: what a saved model is, how it was made, and what it costs in perplexity and accuracy."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from come.export.metadata import metadata, percent
from come.export.older_readers import TRIED
from come.models.bundle import Bundle
from come.numbers import perplexity_text


def model_card(bundle: Bundle, results: dict[str, Any] | None = None) -> str:
    """Markdown with the front matter that the hub reads.

    Args:
        bundle: the model; its plan, if it has one, is told step by step.
        results: a run's results.json, for perplexities, accuracies and the calibration text.
    """
    plan = bundle.plan
    name = bundle.source.rstrip("/").rpartition("/")[2]
    layers = len(bundle.layers)
    lines = ["---", metadata(bundle.source, plan, results, f"{name}-{layers}-layers").to_yaml(), "---", ""]
    notes = [line for note in bundle.notes for line in (note, "")]
    if plan is None:
        size = f"{layers} decoder layers, {bundle.parameters:,} parameters."
        return "\n".join([*lines, f"# {name}", "", size, "", *notes, *_readers(bundle)]).rstrip("\n") + "\n"
    lines += [
        f"# {name}, pruned from {plan.base.layers} to {layers} layers",
        "",
        f"Made with CoMe Lab from `{name}` by the method `{plan.method}`: "
        f"{bundle.parameters:,} of {plan.base.parameters:,} parameters are left "
        f"({1 - bundle.parameters / plan.base.parameters:.1%} removed). It is a plain checkpoint of the same "
        "architecture and loads in Transformers with no code of ours. The license of the base model applies.",
        "",
        *notes,
        *_readers(bundle),
        "## Base model",
        "",
        f"- source: `{name}`" + (f", revision `{plan.base.revision}`" if plan.base.revision else ""),
        f"- SHA-256 of the weights in {plan.dtype}: `{plan.base.fingerprint}`",
        "",
        *_calibration(results, plan.calibration),
        *_perplexity(results),
        *_accuracy(results),
        "## Plan",
        "",
        "`plan.json` beside this card says how it was made, and with the files of weights that it names, if it names "
        "any, rebuilds these weights bit for bit: `come rebuild plan.json --out FOLDER`.",
        "",
        *(f"{number}. {words}" for number, words in enumerate(plan.in_words(), start=1)),
        "",
        *([*(f"- {note}" for note in plan.notes), ""] if plan.notes else []),
        *_method(plan.method),
    ]
    return "\n".join(lines)


def _readers(bundle: Bundle) -> list[str]:
    """What the folder was saved with, and which older readers were tried on models like it."""
    lines = [
        f"Saved with Transformers {version('transformers')} and PyTorch {version('torch')}. Models of all families "
        f"saved like this one were tried with Transformers {TRIED} too, which computes the same logits.",
    ]
    if getattr(bundle.model.config, "attn_logit_softcapping", None) is not None:
        lines.append('There it takes `attn_implementation="eager"`: with others Transformers 4 does not cap attention.')
    return [*lines, ""]


def _method(name: str) -> list[str]:
    """What made the plan; a plan by a method that is not among ours tells its name above."""
    from come.pruning.registry import methods  # it stands on the models

    method = methods().get(name)
    if method is None:
        return []
    paper = [f"- paper: {method.paper}"] if method.paper else []
    return ["## Method", "", f"- {method.title}: {method.summary}", *paper, ""]


def _calibration(results: dict[str, Any] | None, calibration: dict[str, Any]) -> list[str]:
    told = {**calibration, **((results or {}).get("calibration") or {})}
    told = {key: _start(value) if key == "bos" else value for key, value in told.items()}
    return ["## Calibration text", "", *(f"- {key}: {value}" for key, value in told.items()), ""]


def _start(bos: str | None) -> str:
    return f"`{bos}` before each sequence" if bos else "none"


def _perplexity(results: dict[str, Any] | None) -> list[str]:
    rows = [(name, (results or {}).get(name) or {}) for name in ("original", "pruned")]
    rows = [(name, row) for name, row in rows if row.get("perplexity") is not None]
    if not rows:
        return []
    text = (results or {}).get("evaluation") or {}
    return [
        "## Perplexity",
        "",
        f"On held-out text ({text.get('text', 'held-out text')}; BOS: {_start(text.get('bos'))}):",
        "",
        "| model | layers | parameters | perplexity |",
        "|---|---|---|---|",
        *(
            f"| {name} | {row['layers']} | {row['parameters']:,} | {perplexity_text(row['perplexity'], '.2f')} |"
            for name, row in rows
        ),
        "",
    ]


def _accuracy(results: dict[str, Any] | None) -> list[str]:
    before, after = (((results or {}).get(name) or {}).get("accuracy") or {} for name in ("original", "pruned"))
    rows = [
        f"| {task} | {scores['items']} | {percent(before.get(task, {}))} | {percent(scores)} | {scores['chance']:.1%} |"
        for task, scores in after.items()
        if "acc" in scores
    ]
    if not rows:
        return []
    return [
        "## Accuracy",
        "",
        "| task | questions | original | pruned | guessing |",
        "|---|---|---|---|---|",
        *rows,
        "",
    ]
