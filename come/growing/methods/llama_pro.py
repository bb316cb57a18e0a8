"""LLaMA Pro: copies that at first hand on what they get.

Wu et al. 2024, "LLaMA Pro: Progressive LLaMA with Block Expansion", arXiv 2401.02415: the layers are divided into
groups, and behind each group comes a copy of its last layer whose output maps are zero. The paper then trains the
copies alone.
"""

from __future__ import annotations

import torch
from torch import nn

from come.growing.growth import GrownLayer, GrowTask, copied, evenly, with_new
from come.growing.registry import register
from come.models import Family
from come.options import Options


@register(
    "llama-pro",
    title="LLaMA Pro",
    paper="https://arxiv.org/abs/2401.02415",
    summary="A copy behind a layer, at equal distances, its output maps zero: the model says what it said before.",
    most=lambda layers: 2 * layers,
)
def llama_pro(task: GrowTask, options: Options) -> list[GrownLayer]:
    """The grown model's layers."""
    layers, family = task.bundle.layers, task.bundle.family
    after = task.after or evenly(len(layers), task.more)
    return with_new(task, after, lambda number: silenced(copied(layers[number]), family))


@torch.no_grad()
def silenced(layer: nn.Module, family: Family) -> nn.Module:
    """The layer, changed: its sub-layers add nothing to the hidden states, since RMS norms keep nothing nothing."""
    for path in (family.attention_output, family.ffn_output):
        for parameter in layer.get_submodule(path).parameters():
            parameter.zero_()
    return layer
