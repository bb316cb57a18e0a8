"""A visitor's draft as the request of a run, and as a small JSON document to download, share and upload.

The document holds the fields of `come.runs.RunConfig` that say what to prune and how: the same object that a run
works from. Fields of a whole config.json that are not about the plan are accepted and left aside.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

import come
from app.state.choice import LARGEST, Choice, Draft, by_hand, comparable, plan_fields
from come.errors import ComeError
from come.plan.plan import Plan
from come.pruning.registry import method, takes_windows
from come.request import BEFORE_BOS, RunConfig

_OF_A_PLAN = {
    "model",
    "text",
    "n_tokens",
    "seq_len",
    "seed",
    "bos",
    "method",
    "target_layers",
    "sparsity",
    "options",
}
_WHAT_TO_UPLOAD = "Upload a plan that was downloaded here, or a run's config.json."
_NOT_OF_A_DRAFT = {"target_layers", "sparsity", "windows", "ratios", "drop"}  # options that the steps tell


def config(choice: Choice, draft: Draft, **more: Any) -> RunConfig:
    """The request of a choice and a draft; `more` are other fields of it.

    Raises:
        ComeError: a field has a value that it cannot have.
    """
    return RunConfig.model_validate(_chosen(choice) | plan_fields(draft) | more)


def analysis(choice: Choice) -> RunConfig:
    """The request of an analysis of a choice."""
    return RunConfig.model_validate({"kind": "analyze"} | _chosen(choice))


def _chosen(choice: Choice) -> dict[str, Any]:
    return {
        "model": choice.model,
        "text": choice.text,
        "n_tokens": choice.tokens,
        "seq_len": choice.seq_len,
        "seed": choice.seed,
        "bos": choice.bos,
    }


def to_json(request: RunConfig) -> str:
    """The plan as a document that `from_json` and `come.runs.RunConfig` read."""
    return request.model_dump_json(include=_OF_A_PLAN, exclude_none=True, indent=2) + "\n"


def from_json(text: str | bytes) -> tuple[Choice, Draft]:
    """The choice and the plan of a document.

    Raises:
        ComeError: it is not JSON, not a request, or the request contradicts itself.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):  # the latter where it is nested without end
        raise ComeError("This file is not JSON.", _WHAT_TO_UPLOAD) from None
    if not isinstance(values, dict):
        raise ComeError("This file holds no request.", _WHAT_TO_UPLOAD)
    if not values.keys() & {"steps", "model", "method"}:
        raise ComeError("This file is no plan.", _WHAT_TO_UPLOAD)
    if "steps" in values:
        return of_plan(_plan(values))
    request = RunConfig.stored(values)
    _check_drawable(request)
    options = dict(request.options)
    windows, ratios, dropped = (options.pop(name, None) for name in ("windows", "ratios", "drop"))
    if windows is not None and (request.target_layers is not None or request.sparsity is not None):
        raise ComeError(
            "Windows and a target were given together.",
            "Windows decide the number of layers; remove the target.",
        )
    if dropped is not None and windows is None:
        raise ComeError("Layers are dropped beside windows by hand only.", "Add the option windows, [] for none.")
    if request.kind != "compress":
        raise ComeError("This is the request of an analysis, not of a plan.", _WHAT_TO_UPLOAD)
    draft = Draft(
        method=request.method,
        target_layers=request.target_layers,
        sparsity=request.sparsity,
        windows=_windows(windows),
        ratios=_ratios(ratios),
        dropped=_dropped(dropped),
        options=options,
    )
    return choice_of(request), draft


def choice_of(request: RunConfig) -> Choice:
    """Which model a request looks at, and over which tokens."""
    return Choice(
        model=request.model,
        text=request.text,
        tokens=request.n_tokens,
        seq_len=request.seq_len,
        seed=request.seed,
        bos=request.bos,
    )


def of_plan(plan: Plan, choice: Choice | None = None) -> tuple[Choice, Draft]:
    """What to ask for so that a run ends where a plan did: its windows by hand where its method takes them.

    Which units each window keeps is decided anew, on the same number of tokens.

    Args:
        plan: of a run.
        choice: what the run was asked for; without it the plan's model, and a text of the default's.

    Raises:
        ComeError: its method is not known here, or its steps are none that a draft could ask for.
    """
    known = method(plan.method)
    if choice is None:
        base, told = Choice(), plan.calibration
        seq_len = _count_of(told.get("seq_len"), base.seq_len)
        tokens = _count_of(told.get("sequences"), base.tokens // seq_len) * seq_len
        bos = base.bos if told.get("bos") else BEFORE_BOS  # where none was put, never to put one is the same
        choice = replace(base, model=plan.base.source, tokens=tokens, seq_len=seq_len, bos=bos)
    if known.target == "parameters":  # it silences parts of layers
        share = plan.silenced_parameters / plan.base.parameters if plan.base.parameters else 0.0
        return choice, Draft(method=plan.method, sparsity=min(share, 0.99), options=_options_of(plan))
    groups = plan.groups()
    if not takes_windows(plan.method) or any(group != list(range(group[0], group[-1] + 1)) for group in groups):
        return choice, Draft(method=plan.method, target_layers=len(groups), options=_options_of(plan))
    kept = {layer for group in groups for layer in group}
    windows = [(group[0], group[-1]) for group in groups if len(group) > 1]
    dropped = [layer for layer in range(plan.base.layers) if layer not in kept]
    return choice, by_hand(Draft(method=plan.method, options=_options_of(plan)), windows, None, dropped)


def _plan(values: dict[str, Any]) -> Plan:
    try:
        return Plan.model_validate(values)
    except (ValidationError, RecursionError):
        raise ComeError("This file is no plan that can be read.", _WHAT_TO_UPLOAD) from None


def _count_of(value: Any, otherwise: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 10**6 else otherwise


def _options_of(plan: Plan) -> dict[str, Any]:
    """The plan's options that are not the method's own values, without those that its steps tell."""
    known = come.methods()[plan.method]
    defaults, found = comparable(known.defaults()), {}  # a plan's have lists for tuples, too
    for name, value in plan.options.items():
        if name in defaults and name not in _NOT_OF_A_DRAFT and value != defaults[name]:
            known.check_option(name, value)
            found[name] = value
    return found


def _check_drawable(request: RunConfig) -> None:
    """Refuse what no widget can show; the rest can be shown and mended."""
    known = come.methods().get(request.method)
    for name, value in request.options.items() if known else ():
        known.check_option(name, value)
    numbers = {"n_tokens": request.n_tokens, "seq_len": request.seq_len, "seed": request.seed} | request.options
    for name, value in numbers.items():
        if isinstance(value, int) and abs(value) > LARGEST:
            raise ComeError(f"The number {name} of this request is too large.", f"Give {LARGEST:,} at most.")


def _windows(values: Any) -> list[tuple[int, int]] | None:
    if values is None:
        return None
    try:
        return [(int(first), int(last)) for first, last in values]
    except (TypeError, ValueError, OverflowError):
        raise ComeError("The windows of this request cannot be read.", "Write them as [[4, 5], [9, 11]].") from None


def _ratios(values: Any) -> list[tuple[float, ...]] | None:
    if values is None:
        return None
    try:
        return [tuple(float(share) for share in ratio) for ratio in values]
    except (TypeError, ValueError, OverflowError):
        raise ComeError(
            "The ratios of this request cannot be read.", "Write them as [[0.4, 0.6], [0.2, 0.3, 0.5]]."
        ) from None


def _dropped(values: Any) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(layer) for layer in values or ()}))
    except (TypeError, ValueError, OverflowError):
        raise ComeError("The dropped layers of this request cannot be read.", "Write them as [9, 12].") from None
