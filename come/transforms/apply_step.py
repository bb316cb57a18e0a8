"""What one step of a plan does to a model: to its weights here, to its list of layers as ``Step.parents`` tells."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from come.models import Bundle
from come.models.depth import with_layers
from come.plan.steps import Average, Concatenate, Mask, Replace, Step
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
    lowest = [above[0] for above in step.parents(len(bundle.layers))]
    layers = [changed.get(layer, bundle.layers[layer]) for layer in lowest]
    return with_layers(bundle, layers, [config_of.get(layer, layer) for layer in lowest])
