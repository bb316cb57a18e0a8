"""What a model is made of, told from its config alone: no weights are loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import nn

from come.errors import ComeError
from come.models.catalogue import known
from come.models.families import family_of
from come.models.family import Family, shape_of
from come.models.gguf import converted_folder
from come.models.source import Source, read_config, readable, resolve
from come.settings import expanded

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Facts:
    """A model's shape and size.

    Attributes:
        supported: whether its layers can be merged; ``reason`` says why not.
        dtype: the dtype its weights are stored in (the bundled model's, once converted).
        parameters: how many there are, tied ones counted once; ``parameters_by_part`` adds up to it.
        layer_parameters: how many one decoder layer has.
        converted: no slow preparation is needed before it can be loaded.
    """

    source: str
    title: str
    model_type: str
    supported: bool
    reason: str
    layers: int
    hidden_size: int
    intermediate_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_position_embeddings: int
    tied_embeddings: bool
    dtype: str
    license: str
    parameters: int
    layer_parameters: int
    parameters_by_part: dict[str, int]
    converted: bool
    config: dict[str, Any] = field(repr=False)

    def parameters_at(self, layers: int) -> int:
        """How many parameters are left with that many decoder layers."""
        return self.parameters - (self.layers - layers) * self.layer_parameters

    def bytes_at(self, layers: int, dtype: str = "float32") -> int:
        """How many bytes the weights take with that many decoder layers, in that dtype."""
        return self.parameters_at(layers) * BYTES[dtype]

    def layers_for_sparsity(self, sparsity: float) -> int:
        """The largest count of layers that removes at least that share of all parameters.

        Raises:
            ComeError: the share is not in [0, 1), or removing all layers but one is not enough.
        """
        return layers_for_sparsity(sparsity, self.layers, self.parameters, self.layer_parameters)


def layers_for_sparsity(sparsity: float, layers: int, parameters: int, layer_parameters: int) -> int:
    """The largest count of layers that removes at least ``sparsity`` of all parameters (``Facts`` says more)."""
    if not 0 <= sparsity < 1:
        raise ComeError(
            f"A sparsity of {sparsity:g} makes no sense.",
            "Give the share of parameters to remove, from 0 to below 1.",
        )
    for count in range(layers, 0, -1):
        # A hair's breadth of tolerance: 0.1 of 100 parameters is 10, not 10.000000000000002.
        if (layers - count) * layer_parameters >= sparsity * parameters - 1e-6:
            return count
    most = (layers - 1) * layer_parameters / parameters
    raise ComeError(
        f"Removing {sparsity:.1%} of the parameters is out of reach: the layers that can go hold {most:.1%}.",
        f"Give a sparsity of at most {int(most * 1000) / 1000:g}.",
    )


def describe(source: str | os.PathLike[str]) -> Facts:
    """The facts of a model, supported or not, without loading its weights.

    Raises:
        ComeError: there is no such model, or its config cannot be read or fetched.
    """
    name = os.fspath(source)
    origin = resolve(name)
    converted = True
    if origin.kind == "gguf":
        folder = converted_folder(origin.path)
        converted = (folder / "config.json").is_file()
        config = read_config(Source("folder", str(folder))) if converted else _gguf_config(origin.where)
    else:
        config = read_config(origin)
    return _facts(name, config, converted)


@lru_cache(maxsize=8)
def _gguf_config(path: str) -> Any:
    from come.models.auto import AutoConfig

    with readable(Source("gguf", path)):
        return AutoConfig.from_pretrained(Path(path).parent, gguf_file=Path(path).name)


def _facts(name: str, config: Any, converted: bool) -> Facts:
    try:
        family: Family | None = family_of(config)
        reason = ""
    except ComeError as error:
        family, reason = None, str(error)
    shape = shape_of(config)
    by_part, one_layer = _count(config, family) if family else ({}, 0)
    entry = known(name)
    return Facts(
        source=name,
        title=entry.title if entry else Path(name).name,
        model_type=str(config.model_type),
        supported=family is not None,
        reason=reason,
        layers=shape.layers,
        hidden_size=shape.hidden_size,
        intermediate_size=shape.channels,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        vocab_size=int(getattr(config, "vocab_size", 0) or 0),
        max_position_embeddings=int(getattr(config, "max_position_embeddings", 0) or 0),
        tied_embeddings=bool(getattr(config, "tie_word_embeddings", False)),
        dtype=str(getattr(config, "dtype", None) or "float32").removeprefix("torch."),
        license=license_of(name),
        parameters=sum(by_part.values()),
        layer_parameters=one_layer,
        parameters_by_part=by_part,
        converted=converted,
        config=config.to_dict(),
    )


def _count(config: Any, family: Family) -> tuple[dict[str, int], int]:
    """Parameters by part, and those of one layer, counted on a model without storage."""
    from come.models.auto import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    model.tie_weights()
    counted: set[int] = set()

    def count(module: nn.Module) -> int:
        fresh = {id(p): p.numel() for p in module.parameters() if id(p) not in counted}
        counted.update(fresh)
        return sum(fresh.values())

    layers = list(model.get_submodule(family.layers))
    one_layer = sum(parameter.numel() for parameter in layers[0].parameters())
    ffn = [layer.get_submodule(path) for layer in layers for path in family.ffn_paths]
    attention = [layer.get_submodule(path) for layer in layers for path in family.attention_paths]
    by_part = {
        "embeddings": sum(count(model.get_submodule(path)) for path in family.embeddings),
        "attention": sum(map(count, attention)),
        "feed-forward": sum(map(count, ffn)),
        "head": count(model.get_submodule(family.head)),
    }
    by_part["norms"] = count(model)
    return by_part, one_layer


def license_of(name: str) -> str:
    """A model's license: that of a known one, or what a folder's model card states; "" where neither tells."""
    if entry := known(name):
        return entry.license
    card = expanded(name) / "README.md"
    if not os.path.isfile(card):
        return ""
    for line in card.read_text(encoding="utf-8", errors="replace").splitlines()[:60]:
        if line.startswith("license:"):
            return line.partition(":")[2].strip()
    return ""
