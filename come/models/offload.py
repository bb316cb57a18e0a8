"""Models whose weights lie partly in main memory or on disk: accelerate's hooks fetch them when they are needed.

Such a module's parameters are placeholders on the "meta" device; everything that reads weights goes through here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module, remove_hook_from_submodules
from accelerate.utils import align_module_device
from torch import Tensor, nn


def weight_of(module: nn.Module, name: str) -> Tensor | None:
    """A module's own parameter or buffer as it is, fetched where it is elsewhere; None where there is none."""
    tensor = getattr(module, name, None)
    if not isinstance(tensor, Tensor) or tensor.device.type != "meta":
        return tensor
    with align_module_device(module):
        return getattr(module, name).detach()  # type: ignore[no-any-return]


def saved_tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and saved buffers of a model, in order of name, each fetched when it is asked for."""
    for name in sorted(model.state_dict()):
        module, _, own = name.rpartition(".")
        tensor = weight_of(model.get_submodule(module), own)
        assert tensor is not None
        yield name, tensor


def is_offloaded(model: nn.Module) -> bool:
    """Whether some of a model's weights are not at hand."""
    return any(parameter.device.type == "meta" for parameter in model.parameters())


def hook_stores(model: nn.Module) -> Iterator[Any]:
    """What the hooks of a model fetch weights from: to be shared by copies of the model, never copied."""
    for module in model.modules():
        hook = getattr(module, "_hf_hook", None)
        for each in getattr(hook, "hooks", (hook,)):
            for name in ("weights_map", "tied_params_map"):
                store = getattr(each, name, None)
                if store is not None:
                    yield store


def bring_in(module: nn.Module, *, filled: bool = True) -> None:
    """Make the weights of a module of one's own real, where hooks fetched them; its inputs still come to its device.

    Args:
        module: a layer, or a map of one; changed in place.
        filled: fetch the weights. Whoever puts others in the place of every single one needs no more than room for
            them: without it they are whatever the memory held.
    """
    if not any(hasattr(part, "_hf_hook") for part in module.modules()):
        return
    device = next(
        (hook.execution_device for part in module.modules() if (hook := _aligning(part)) is not None),
        torch.device("cpu"),
    )
    elsewhere = [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part._parameters.items()
        if parameter is not None and parameter.device.type == "meta"
    ]
    # Before the hooks go: they alone know where the weights are.
    fetched = [weight_of(part, name) if filled else None for part, name, _ in elsewhere]
    remove_hook_from_submodules(module)
    for (part, name, parameter), weight in zip(elsewhere, fetched, strict=True):
        if weight is None:
            weight = torch.empty(parameter.shape, dtype=parameter.dtype, device=device)
        part._parameters[name] = nn.Parameter(weight.to(device), parameter.requires_grad)
    add_hook_to_module(module, AlignDevicesHook(execution_device=device))


def _aligning(module: nn.Module) -> AlignDevicesHook | None:
    hook = getattr(module, "_hf_hook", None)
    return next((each for each in getattr(hook, "hooks", (hook,)) if isinstance(each, AlignDevicesHook)), None)


def input_device(model: Any) -> torch.device:
    """The device of a model's embeddings; the CPU where accelerate keeps those elsewhere: hooks move what comes in."""
    device: torch.device = model.get_input_embeddings().weight.device
    return torch.device("cpu") if device.type == "meta" else device
