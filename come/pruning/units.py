"""The target of methods that silence parts of layers: the parameters that a model of fewer layers would have."""

from __future__ import annotations

from come.errors import ComeError
from come.models import Bundle
from come.pruning.registry import Task
from come.transforms.mask import parameters_of_units


def parameters_to_remove(task: Task) -> int:
    """How many parameters removing whole layers down to the target would save.

    Raises:
        ComeError: all sub-layers together have fewer (norms are not silenced).
    """
    one_layer = sum(parameter.numel() for parameter in task.original.layers[0].parameters())
    layers = len(task.original.layers)
    wanted = (layers - task.target_layers) * one_layer
    if wanted > layers * sum(sub_layer_parameters(task.original, attention) for attention in (True, False)):
        raise ComeError(
            f"A target of {task.target_layers} layers is out of reach: not even silencing everything saves as much.",
            "Give a higher target.",
        )
    return wanted


def sub_layer_parameters(bundle: Bundle, attention: bool) -> int:
    """How many parameters the attention, or else the FFN, of one layer has."""
    count = bundle.shape.kv_heads if attention else bundle.shape.channels
    return parameters_of_units(bundle, bundle.layers[0], attention, count)
