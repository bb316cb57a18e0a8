"""What a model is made of, told from its config alone: no weights are loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from torch import nn

from come.errors import ComeError
from come.models.catalogue import known
from come.models.checkpoint import one_matrix_twice
from come.models.families import family_of
from come.models.family import Family, shape_of
from come.models.gguf import converted_folder
from come.models.gguf_header import read_gguf_config, refuse_unread
from come.models.quantized import DTYPE as QUANTIZED_DTYPE
from come.models.quantized import method_of
from come.models.skeleton import empty_model, skeleton, tokenizer_of
from come.models.small_files import MOST_FILES, head_of_card
from come.models.source import Source, read_config, readable, resolve, to_read_from
from come.models.text_tower import note, wrapper_at
from come.numbers import is_number
from come.settings import expanded

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True)
class Matrix:
    """A weight matrix of a layer.

    Attributes:
        part: "attention" or "feed-forward".
        name: of the module that has it, such as "q_proj".
        outputs, inputs: its shape.
    """

    part: str
    name: str
    outputs: int
    inputs: int


@dataclass(frozen=True)
class Facts:
    """A model's shape and size.

    Attributes:
        supported: whether it can be loaded and its layers merged; ``reason`` says why not.
        note: what is done to it when it is loaded, or is odd about it; "" where there is nothing to say.
        dtype: the dtype its weights are loaded in unless told otherwise.
        parameters: how many there are, tied ones counted once; ``parameters_by_part`` adds up to it.
        layer_parameters: how many one decoder layer has.
        matrices: those of the first layer, in the order in which they are run; those of the others are alike.
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
    note: str
    config: dict[str, Any] = field(repr=False)
    matrices: tuple[Matrix, ...] = field(default=(), repr=False)

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
    if not is_number(sparsity) or not 0 <= sparsity < 1:
        raise ComeError(
            f"A sparsity of {str(sparsity)[:40]} makes no sense.",
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
    with readable(origin):
        return _described(name, origin)


def _described(name: str, origin: Source) -> Facts:
    if origin.kind == "gguf":
        folder = converted_folder(origin.path)
        if not (folder / "config.json").is_file():
            return _of_gguf(name, origin, *_state(origin.where))
        origin = Source("folder", str(folder))
    if origin.kind == "hub":
        return _read(name, origin)
    return _remembered(name, origin, *_state(origin.where), *_state(origin.adapter or origin.where))


def _state(path: str) -> tuple[tuple[str, int, int], ...]:
    """What tells whether a file, or one of a folder, was written anew."""
    files = sorted(islice(Path(path).iterdir(), MOST_FILES)) if os.path.isdir(path) else [Path(path)]
    return tuple((each.name, each.stat().st_size, each.stat().st_mtime_ns) for each in files if each.exists())


@lru_cache(maxsize=16)
def _remembered(name: str, origin: Source, *state: object) -> Facts:
    """The facts of a model in a folder: pages and requests ask for them time and again."""
    del state  # part of the cache's key only
    return _read(name, origin)


def _read(name: str, origin: Source) -> Facts:
    with readable(origin):
        where = to_read_from(origin)
    return _facts(name, origin, where, read_config(origin, where))


@lru_cache(maxsize=16)
def _of_gguf(name: str, origin: Source, *state: object) -> Facts:
    """The facts of a .gguf file that was not converted yet."""
    del state
    with readable(origin):
        return _facts(name, origin, "", read_gguf_config(origin.path))


def _facts(name: str, origin: Source, where: str, config: Any) -> Facts:
    """The facts of a model.

    Args:
        name: as the user calls it.
        origin: its place; a .gguf file where it has not been converted yet.
        where: what ``to_read_from`` says of it; "" for a .gguf file.
        config: its Transformers config.
    """
    family, empty, reason = _looked_at(origin, where, config)
    shape = shape_of(config)
    by_part, one_layer = _count(empty, family) if family else ({}, 0)
    entry, dtype = known(name), QUANTIZED_DTYPE if method_of(config) else None
    return Facts(
        source=name,
        title=entry.title if entry else Path(name).name,
        model_type=str(config.model_type),
        supported=not reason,
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
        dtype=str(dtype or getattr(config, "dtype", None) or "float32").removeprefix("torch."),
        license=license_of(name),
        parameters=sum(by_part.values()),
        layer_parameters=one_layer,
        parameters_by_part=by_part,
        converted=bool(where),
        note=_note(origin, where, config, family) if family and not reason else "",
        config=config.to_dict(),
        matrices=_matrices(empty, family) if family else (),
    )


def _looked_at(origin: Source, where: str, config: Any) -> tuple[Family | None, Any, str]:
    """A model's family, the model without its weights, and why ``load`` refuses it; "" where it does not."""
    try:
        family = family_of(config)
    except ComeError as error:
        return None, None, str(error)
    try:
        if not where:
            refuse_unread(origin.path, empty := empty_model(config))
            return family, empty, ""
        empty = skeleton(origin, where, config, family)
        if os.path.isdir(where):  # what is on the hub is not fetched for this
            tokenizer_of(origin, where, config)
        return family, empty, ""
    except ComeError as error:
        return family, empty_model(config), str(error)


def _note(origin: Source, where: str, config: Any, family: Family) -> str:
    """What is done to a model when it is loaded, or is odd about it."""
    wrapper, told = wrapper_at(where) if where else "", []
    if wrapper:
        told.append(note(wrapper, config))
    if origin.adapter:
        told.append(f"The adapter in {origin.adapter} is merged into {origin.where} when it is loaded.")
    if method := method_of(config):
        told.append(f"Its weights are quantized ({method}) and are unpacked when it is loaded.")
    head, embeddings = f"{family.head}.weight", f"{family.embeddings[0]}.weight"
    if not config.tie_word_embeddings and os.path.isdir(where) and one_matrix_twice(Path(where), head, embeddings):
        told.append("Its head is the matrix of its embeddings, rounded in another way: it is stored and counted twice.")
    return " ".join(told)


def _count(model: Any, family: Family) -> tuple[dict[str, int], int]:
    """Parameters by part, and those of one layer, counted on a model without storage."""
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


def _matrices(model: Any, family: Family) -> tuple[Matrix, ...]:
    """The matrices of the first layer, on a model without storage."""
    layer, found = model.get_submodule(family.layers)[0], []
    for part, paths in (("attention", family.attention_paths), ("feed-forward", family.ffn_paths)):
        for path in paths:
            for name, weight in layer.get_submodule(path).named_parameters(prefix=path):
                if weight.ndim == 2:
                    outputs, inputs = reversed(weight.shape) if family.transposed else weight.shape
                    found.append(Matrix(part, name.removesuffix(".weight").rpartition(".")[2], outputs, inputs))
    return tuple(found)


def license_of(name: str) -> str:
    """A model's license: that of a known one, or what a folder's model card states; "" where neither tells."""
    if entry := known(name):
        return entry.license
    for line in head_of_card(expanded(name) / "README.md").splitlines()[:60]:
        if line.startswith("license:"):
            told = line.partition(":")[2].strip()[:200]
            return "".join(each for each in told if each.isprintable())
    return ""
