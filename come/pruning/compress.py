"""Pruning a model by any of the methods."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress
from come.measurement.measure import check_rules
from come.models import Bundle, Facts
from come.models.facts import layers_for_sparsity
from come.models.offload import is_offloaded
from come.plan.plan import Plan, canonical
from come.pruning.allocate import check_ratio
from come.pruning.progressive import merges_a_pass
from come.pruning.registry import Method, Task, method
from come.pruning.result import Result
from come.pruning.select import check_dropped, check_target, check_windows
from come.transforms.compatible import check_mixable, check_reach
from come.transforms.rebuild import base_of, replay

TRAINED_OPTIONS = ("refit", "tune")  # that put weights in place of others: where those lie elsewhere, there is no place


def compress(
    bundle: Bundle,
    tokens: Tensor,
    method: str = "come",
    *,
    target_layers: int | None = None,
    sparsity: float | None = None,
    on_progress: OnProgress = None,
    done: Plan | None = None,
    on_step: Callable[[Plan], None] | None = None,
    measured: dict[Any, Any] | None = None,
    **options: Any,
) -> Result:
    """Prune a model; the one given is left as it was and stays usable.

    Args:
        bundle: the model.
        tokens: calibration tokens, int64 (sequences, tokens).
        method: the name of one of ``come.methods()``.
        target_layers: how many layers to leave; or
        sparsity: which share of all parameters to remove at least; or the option ``windows``, where there is one.
        on_progress: told of each stage.
        done: the plan of an interrupted run of the same request, to go on from.
        on_step: given the plan after each step.
        measured: measuring passes that requests share, over these tokens or others: taken up, and added to.
        **options: the method's options.

    Raises:
        ComeError: the request is impossible, and nothing was run; or the model's values turn out not to be finite.
    """
    chosen, parsed, target = _parse(bundle, method, target_layers, sparsity, options)
    if is_offloaded(bundle.model):
        _check_offloaded(chosen, parsed)
    empty = Plan(
        base=base_of(bundle),
        dtype=str(bundle.dtype).removeprefix("torch."),
        method=chosen.name,
        options=canonical({"target_layers": target, **dataclasses.asdict(parsed)}),
        calibration={
            "sequences": len(tokens),
            "seq_len": tokens.shape[1],
            "tokens_hash": hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest(),
        },
    )
    if done is not None and not done.same_request(empty):
        raise ComeError(
            "The plan to go on from was made by another request.",
            "Use the same model, text, method and options, or start anew.",
        )
    plan = done if done is not None else empty
    current = replay(bundle, plan) if plan.steps else bundle
    task = Task(bundle, current, plan, tokens, target, on_progress, on_step, measured if measured is not None else {})
    result = chosen.function(task, parsed)
    _check_target_met(bundle, result.bundle, chosen, target)
    return result


def _check_offloaded(method: Method, options: Any) -> None:
    """Refuse what would fail after hours of work in a model that lies partly outside of memory."""
    fits = "or use a machine on which the model fits in memory"
    if "training" in method.needs:
        raise ComeError(
            f"{method.title} trains a layer, which a model that lies partly outside of memory does not allow.",
            f"Choose another method, {fits}.",
        )
    for name in TRAINED_OPTIONS:
        if getattr(options, name, False):
            raise ComeError(
                f"The option {name} of {method.title} puts new weights in place, which a model that lies partly "
                "outside of memory does not allow.",
                f"Set {name} to false, {fits}.",
            )


def _check_target_met(original: Bundle, pruned: Bundle, method: Method, target: int) -> None:
    if method.target == "layers":
        assert len(pruned.layers) == target, f"{len(pruned.layers)} layers, {target} wanted"
        return
    most = original.parameters - (len(original.layers) - target) * layer_parameters(original)
    assert len(pruned.layers) == len(original.layers), f"{method.name} keeps every layer, {len(pruned.layers)} are left"
    assert pruned.parameters <= most, f"{pruned.parameters:,} parameters, at most {most:,} wanted"


def layer_parameters(bundle: Bundle) -> int:
    """How many parameters a layer of a model has."""
    return sum(parameter.numel() for parameter in bundle.layers[0].parameters())


def check_request(
    facts: Facts,
    method: str,
    target_layers: int | None = None,
    sparsity: float | None = None,
    options: Mapping[str, Any] | None = None,
) -> int:
    """How many layers a request leaves, found out without loading or running anything.

    Raises:
        ComeError: the model's family is not supported, or ``compress`` would refuse the request.
    """
    if not facts.supported:
        raise ComeError(facts.reason)
    return _parse(facts, method, target_layers, sparsity, dict(options or {}))[2]


def _parse(
    model: Bundle | Facts,
    name: str,
    target_layers: int | None,
    sparsity: float | None,
    options: dict[str, Any],
) -> tuple[Method, Any, int]:
    chosen = method(name)
    parsed = chosen.parse(options)
    if isinstance(model, Facts):
        layers, parameters, one_layer = model.layers, model.parameters, model.layer_parameters
    else:
        layers, parameters = len(model.layers), model.parameters
        one_layer = layer_parameters(model)
    given = [
        name
        for name, value in (
            ("target_layers", target_layers),
            ("sparsity", sparsity),
            ("windows", options.get("windows")),
        )
        if value is not None
    ]
    if len(given) > 1:
        raise ComeError(f"{' and '.join(given)} cannot be given together.", "Each says alone how far to prune.")
    if hasattr(parsed, "span") and parsed.windows is None:
        check_rules(parsed.span, layers, parsed.sbi_tokens, parsed.last_state)
    if options.get("windows") is not None:
        windows = check_windows([tuple(window) for window in parsed.windows], layers)
        check_mixable(model, windows)
        ratios = getattr(parsed, "ratios", None)
        if ratios is not None:
            if len(ratios) != len(parsed.windows):
                raise ComeError(
                    f"There are {len(ratios)} ratios for {len(parsed.windows)} windows.",
                    "Give one ratio a window, or none at all.",
                )
            for (first, last), ratio in zip(parsed.windows, ratios, strict=True):
                if ratio is not None:
                    check_ratio(ratio, last - first + 1)
        dropped = check_dropped(getattr(parsed, "drop", None) or [], windows, layers)
        target = layers - sum(last - first for first, last in windows) - len(dropped)
    elif target_layers is not None:
        target = target_layers
    elif sparsity is not None:
        target = layers_for_sparsity(sparsity, layers, parameters, one_layer)
    else:
        raise ComeError("Nothing says how far to prune.", "Give target_layers or sparsity.")
    check_target(target, layers)
    if hasattr(parsed, "span") and parsed.windows is None:
        check_reach(model, layers, target, parsed.span)
    if getattr(parsed, "passes", None) is not None:
        merges_a_pass(layers, target, parsed.span, parsed.passes)
    if hasattr(parsed, "check"):
        parsed.check(layers, target)
    return chosen, parsed, target
