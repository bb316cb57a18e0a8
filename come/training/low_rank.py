"""LoRA (Hu et al. 2021, arXiv 2106.09685): low-rank additions to linear maps, by peft, folded in at the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from come.models import Family

ADAPTER = "default"


def add_low_rank(
    module: nn.Module, family: Family, layers: Sequence[str], rank: int, alpha: float, seed: int
) -> dict[str, nn.Parameter]:
    """Put low-rank additions beside the maps of layers, in place; at first they add nothing.

    Args:
        module: a layer, or a model; none of its own parameters is trained.
        family: where a layer keeps its maps.
        layers: where in the module the layers are; "" is the module itself.
        rank: of the additions.
        alpha: their scale, as a multiple of the rank.
        seed: of their random halves.

    Returns:
        The additions' parameters, by name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    paths = [
        f"{layer}.{path}" if layer else path
        for layer in layers
        for path in (*family.attention_paths, *family.ffn_paths)
        if _whole(module.get_submodule(layer), family, path)
    ]
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha * rank,  # type: ignore[arg-type]
        target_modules=paths,
        lora_dropout=0.0,
        fan_in_fan_out=family.transposed,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, module, adapter_name=ADAPTER)
    module.eval()
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def folded(module: nn.Module) -> dict[str, Tensor]:
    """The weights of the maps with their additions in them, float32, by the names they had before."""
    found: dict[str, Tensor] = {}
    for name, each in module.named_modules():
        if hasattr(each, "get_delta_weight") and hasattr(each, "base_layer"):
            lora: Any = each
            weight = lora.base_layer.weight.detach() + lora.get_delta_weight(ADAPTER).detach()
            found[f"{name}.weight"] = weight.cpu()
    return found


def _whole(layer: nn.Module, family: Family, path: str) -> bool:
    """Whether none of a map's columns was silenced: an addition would bring them back."""
    return bool((family.matrix(layer, path) != 0).any(0).all())
