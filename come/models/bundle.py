"""A loaded model with all that is needed to measure, prune and save it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from come.models.family import Family, Shape, shape_of
from come.models.offload import saved_tensors
from come.plan.plan import Plan


@dataclass
class Bundle:
    """A model, its tokenizer, and the table that says where its layers keep their parts.

    Attributes:
        model: a Transformers causal language model, in evaluation mode.
        tokenizer: the tokenizer that goes with it.
        family: where a decoder layer of it keeps its parts.
        source: what it was loaded from, as the user named it.
        revision: the hub's commit, where it came from there.
        plan: how it was pruned, where it was.
        notes: what else people should know of it: that it is a part of what was named, say.
    """

    model: Any
    tokenizer: Any
    family: Family
    source: str
    revision: str | None = None
    plan: Plan | None = None
    notes: tuple[str, ...] = ()

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, in order."""
        layers = self.model.get_submodule(self.family.layers)
        assert isinstance(layers, nn.ModuleList)
        return layers

    @property
    def shape(self) -> Shape:
        """How many layers, heads, KV groups and channels the model has."""
        return shape_of(self.model.config)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return self.model.dtype  # type: ignore[no-any-return]

    @property
    def parameters(self) -> int:
        """How many parameters the model has, tied ones counted once, those of silenced units not at all."""
        silenced = self.plan.silenced_parameters if self.plan is not None else 0
        whole: int = sum(parameter.numel() for parameter in self.model.parameters())
        return whole - silenced

    @property
    def bytes(self) -> int:
        """How many bytes its weights take in their dtype."""
        return sum(parameter.numel() * parameter.element_size() for parameter in self.model.parameters())

    @cached_property
    def fingerprint(self) -> str:
        """The identity of the weights (``weights_hash``), taken once: a bundle's weights are never changed."""
        return weights_hash(self.model)


def weights_hash(model: nn.Module) -> str:
    """SHA-256 over names, dtypes, shapes and bytes of all parameters and saved buffers, in order of name."""
    digest = hashlib.sha256()
    for name, tensor in saved_tensors(model):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
