"""Taking a plan's steps: from a model to the next one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from come.models import Bundle
from come.models.depth import with_layers
from come.plan.steps import Average, Concatenate, Mask, Remove, Step
from come.transforms.average import average
from come.transforms.concatenate import concatenate
from come.transforms.mask import silence
from come.transforms.replace import replace_weights


def apply_step(bundle: Bundle, step: Step, tensors: Mapping[str, Tensor] | None = None) -> Bundle:
    """The model after one step of a plan; unchanged weights are shared with ``bundle``, which is left as it was.

    Args:
        bundle: the model before the step.
        step: what to do.
        tensors: what a step of kind "replace" puts in place (``Plan.tensors``).
    """
    layers = list(bundle.layers)
    everyone = list(range(len(layers)))
    match step:
        case Remove():
            stay = [layer for layer in everyone if layer not in step.layers]
            return with_layers(bundle, [layers[layer] for layer in stay], stay)
        case Concatenate():
            return _with_window(bundle, step.window, *concatenate(bundle, step))
        case Average():
            return _with_window(bundle, step.window, average(bundle, step), step.window[0])
        case Mask():
            silenced = silence(bundle, step)
            return with_layers(bundle, [silenced.get(layer, layers[layer]) for layer in everyone], everyone)
        case _:
            assert tensors is not None, "a step that puts weights in place comes with them"
            return replace_weights(bundle, tensors)


def _with_window(bundle: Bundle, window: tuple[int, int], merged: nn.Module, origin: int) -> Bundle:
    """The model with one layer in the place of a window; ``origin``'s entry in the config holds for it."""
    layers, (first, last) = list(bundle.layers), window
    above = range(last + 1, len(layers))
    return with_layers(bundle, [*layers[:first], merged, *layers[last + 1 :]], [*range(first), origin, *above])
