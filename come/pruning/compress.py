"""Pruning a model by any of the methods, and what that would do: checked and told before anything is run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress
from come.measurement.measurement import Measurement
from come.models import Bundle, Facts
from come.models.facts import layers_for_sparsity
from come.models.offload import is_offloaded
from come.plan.plan import Plan, canonical
from come.pruning.forecast import Forecast, Known
from come.pruning.method import Method, Task
from come.pruning.options import MethodOptions
from come.pruning.presets import preset_options
from come.pruning.registry import method
from come.pruning.result import Result
from come.pruning.windows import WindowCost, check_target
from come.text import begins_with
from come.transforms.rebuild import base_of, replay


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
    preset: str = "",
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
        preset: a name of ``come.pruning.presets``; it fills in options that are not given. Tokens are the caller's:
            those of ``published`` are ``come.tokens(bundle, "wikitext2:rows=256,seed=10", 32768, 2048)``.
        **options: the method's options.

    Raises:
        ComeError: the request is impossible, and nothing was run; or the model's values turn out not to be finite.
    """
    if preset:
        options = {**preset_options(preset, method), **options}
    chosen, parsed, target = _parse(bundle, method, target_layers, sparsity, options)
    parsed.check_sequences(len(tokens))
    if is_offloaded(bundle.model):
        _check_offloaded(chosen, parsed)
    empty = Plan(
        base=base_of(bundle),
        dtype=str(bundle.dtype).removeprefix("torch."),
        method=chosen.name,
        options=canonical({"target_layers": target, **parsed.model_dump()}),
        calibration={
            "sequences": len(tokens),
            "seq_len": tokens.shape[1],
            "tokens_hash": hashlib.sha256(tokens.cpu().contiguous().numpy().tobytes()).hexdigest(),
            "bos": begins_with(tokens, bundle.tokenizer),
        },
    )
    if done is not None:
        # An older plan does not know newer options: it was made by their defaults. Nor does it tell of BOS, which its
        # tokens' hash does. It stays as it was written.
        known = done.model_copy(
            update={
                "options": {**canonical(chosen.defaults()), **done.options},
                "calibration": {"bos": empty.calibration["bos"], **done.calibration},
            }
        )
        if not known.same_request(empty):
            raise ComeError(
                "The plan to go on from was made by another request.",
                "Use the same model, text, method and options, or start anew.",
            )
    plan = done if done is not None else empty
    current = replay(bundle, plan) if plan.steps else bundle
    task = Task(bundle, current, plan, tokens, target, on_progress, on_step, measured if measured is not None else {})
    result = chosen.function(task, parsed)
    _check_target_met(bundle, result.bundle, chosen, parsed, target)
    return result


def _check_offloaded(method: Method, options: MethodOptions) -> None:
    """Refuse what would fail after hours of work in a model that lies partly outside of memory."""
    fits = "or use a machine on which the model fits in memory"
    if "training" in method.needs_with(options):
        raise ComeError(
            f"{method.title} trains a layer, which a model that lies partly outside of memory does not allow.",
            f"Choose another method, {fits}.",
        )
    if options.moves_weights:
        raise ComeError(
            f"{method.title} puts new weights in place, which a model that lies partly outside of memory does not "
            "allow.",
            f"Choose another method, {fits}.",
        )
    if options.fits is not None:
        raise ComeError(
            f"The option {options.fits} of {method.title} puts new weights in place, which a model that lies partly "
            "outside of memory does not allow.",
            f"Set {options.fits} to false, {fits}.",
        )


def _check_target_met(original: Bundle, pruned: Bundle, method: Method, options: MethodOptions, target: int) -> None:
    if method.target == "layers":
        assert len(pruned.layers) == target, f"{len(pruned.layers)} layers, {target} wanted"
        return
    most = original.parameters - (len(original.layers) - target) * layer_parameters(original)
    assert len(pruned.layers) == len(original.layers), f"{method.name} keeps every layer, {len(pruned.layers)} are left"
    assert pruned.parameters <= most or not options.counts_parameters, (
        f"{pruned.parameters:,} parameters, at most {most:,} wanted"
    )


def layer_parameters(bundle: Bundle) -> int:
    """How many parameters a layer of a model has."""
    return sum(parameter.numel() for parameter in bundle.layers[0].parameters())


def check_request(
    facts: Facts,
    method: str,
    target_layers: int | None = None,
    sparsity: float | None = None,
    options: Mapping[str, Any] | None = None,
    sequences: int | None = None,
) -> int:
    """How many layers a request leaves, found out without loading or running anything.

    Args:
        facts: the model's.
        method, target_layers, sparsity, options: as ``compress`` takes them.
        sequences: how many calibration sequences there will be, where that is known.

    Raises:
        ComeError: the model's family is not supported, or ``compress`` would refuse the request.
    """
    if not facts.supported:
        raise ComeError(facts.reason)
    _, parsed, target = _parse(facts, method, target_layers, sparsity, dict(options or {}))
    if sequences is not None:
        parsed.check_sequences(sequences)
    return target


def forecast(
    name: str,
    options: Mapping[str, Any],
    target_layers: int,
    model: Facts,
    measurement: Measurement | None = None,
    costs: Sequence[WindowCost] = (),
) -> Forecast | None:
    """What the method of that name would do; None where only a run tells, or a measurement that is not there.

    ``methods()[name].forecast`` is None where only a run tells.

    Args:
        name, options, target_layers: the request.
        model: what kind of model it is.
        measurement: of it, where there is one.
        costs: what merging windows of it was measured to cost, on the measurement's tokens.

    Raises:
        ComeError: there is no such method or option, or the target is out of range.
    """
    chosen = method(name)
    parsed = chosen.parse(options)
    check_target(target_layers, model.layers)
    parsed.check(model, model.layers, target_layers)
    if chosen.forecast is None:
        return None
    return chosen.forecast(Known(model, target_layers, measurement, costs), parsed)


def _parse(
    model: Bundle | Facts,
    name: str,
    target_layers: int | None,
    sparsity: float | None,
    options: dict[str, Any],
) -> tuple[Method, Any, int]:
    chosen = method(name)
    parsed: MethodOptions = chosen.parse(options)
    if isinstance(model, Facts):
        layers, parameters, one_layer = model.layers, model.parameters, model.layer_parameters
    else:
        layers, parameters, one_layer = len(model.layers), model.parameters, layer_parameters(model)
    said = {"target_layers": target_layers, "sparsity": sparsity}
    given = [name for name, value in said.items() if value is not None]
    given += [parsed.instead_of_target] if parsed.instead_of_target else []
    if len(given) > 1:
        raise ComeError(f"{' and '.join(given)} cannot be given together.", "Each says alone how far to prune.")
    if target_layers is not None:
        target = target_layers
    elif sparsity is not None:
        target = layers_for_sparsity(sparsity, layers, parameters, one_layer)
    elif given:
        target = parsed.target(model, layers)
    else:
        raise ComeError("Nothing says how far to prune.", "Give target_layers or sparsity.")
    check_target(target, layers)
    parsed.check(model, layers, target)
    return chosen, parsed, target
