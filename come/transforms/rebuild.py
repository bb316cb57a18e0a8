"""Applying a plan's steps, one or all: from a plan back to the pruned model, bit for bit."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.events import OnProgress, emit
from come.models import Bundle, load
from come.models.depth import with_layers
from come.models.load import torch_dtype
from come.models.offload import is_offloaded
from come.plan.plan import Base, Plan
from come.plan.steps import Average, Concatenate, Mask, Replace, Scale, Step
from come.transforms.average import average
from come.transforms.concatenate import concatenate
from come.transforms.mask import silence
from come.transforms.replace import replace_weights
from come.transforms.scale import scale


def base_of(bundle: Bundle) -> Base:
    """The identity of a model, for a plan that starts from it."""
    return Base(
        source=bundle.source,
        revision=bundle.revision,
        fingerprint=bundle.fingerprint,
        model_type=bundle.family.name,
        layers=len(bundle.layers),
        parameters=bundle.parameters,
    )


def replay(bundle: Bundle, plan: Plan, on_progress: OnProgress = None) -> Bundle:
    """The pruned model that a plan makes of its base.

    Raises:
        ComeError: the model is not the plan's base.
    """
    if bundle.fingerprint != plan.base.fingerprint:
        raise ComeError(
            f"The weights of {bundle.source} are not those that the plan was made for ({plan.base.source}).",
            f"Name the base model of the plan, with its weights in {plan.dtype}.",
        )
    base, words = bundle, plan.in_words()
    for number, step in enumerate(plan.steps, start=1):
        bundle = apply_step(bundle, step, plan.tensors(step))
        emit(on_progress, "rebuild", number, len(plan.steps), words[number - 1])
    return base if bundle is base else with_plan(bundle, plan)


def with_plan(bundle: Bundle, plan: Plan) -> Bundle:
    """The same model, saying how it was made."""
    return replace(bundle, plan=plan)


def rebuild(
    source: str | os.PathLike[str] | None,
    plan: Plan | str | os.PathLike[str],
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    on_progress: OnProgress = None,
) -> Bundle:
    """Load a plan's base model and take the plan's steps: the same weights as the run's, bit for bit.

    Args:
        source: the base model, as ``come.load`` takes it; None for the one the plan names.
        plan: a plan, or the path of a plan.json.
        device: as for ``come.load``.
        dtype: the dtype of the result; the plan's by default. The steps are always taken in the plan's.
        on_progress: told of each stage.

    Raises:
        ComeError: the plan or the model cannot be read, or they do not belong together.
    """
    if not isinstance(plan, Plan):
        plan = Plan.read(plan)
    wanted = None if dtype is None else torch_dtype(dtype)
    bundle = load(source if source is not None else plan.base.source, device, plan.dtype, on_progress)
    pruned = replay(bundle, plan, on_progress)
    if isinstance(wanted, torch.dtype) and wanted != pruned.dtype:
        if is_offloaded(pruned.model):
            raise ComeError(
                "A model that lies partly outside of memory is rebuilt in the plan's dtype only.",
                f"Leave the dtype out (the plan's is {plan.dtype}), or rebuild it where it fits.",
            )
        pruned.model.to(wanted)  # the base is not used again, so its weights may be cast in place
        pruned.model.config.dtype = wanted
    return pruned


def apply_step(bundle: Bundle, step: Step, tensors: Mapping[str, Tensor] | None = None) -> Bundle:
    """The model after one step of a plan; unchanged weights are shared with ``bundle``, which is left as it was.

    Args:
        bundle: the model before the step.
        step: what to do.
        tensors: what a step of kind "replace" puts in place (``Plan.tensors``).
    """
    if isinstance(step, Replace):
        assert tensors is not None, "a step that puts weights in place comes with them"
        return replace_weights(bundle, tensors)
    changed: dict[int, nn.Module] = {}  # new layers, by the lowest layer that they were made of
    config_of: dict[int, int] = {}  # where that is not the layer whose entry in the config holds for them
    match step:
        case Concatenate(window=(first, _)):
            changed[first], config_of[first] = concatenate(bundle, step)
        case Average(window=(first, _)):
            changed[first] = average(bundle, step)
        case Mask():
            changed = silence(bundle, step)
        case Scale():
            changed = scale(bundle, step)
    lowest = [above[0] for above in step.parents(len(bundle.layers))]
    layers = [changed.get(layer, bundle.layers[layer]) for layer in lowest]
    return with_layers(bundle, layers, [config_of.get(layer, layer) for layer in lowest])
