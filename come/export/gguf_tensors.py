"""The tensors of a GGUF file: which weights of a model, how each is stored, and whether a written file has them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFReader
from gguf.constants import MODEL_ARCH_NAMES
from gguf.quants import dequantize, quantize
from gguf.tensor_mapping import get_tensor_name_map
from torch import Tensor

from come.errors import ComeError
from come.export import gguf_families
from come.export.gguf_families import FOLDER_INSTEAD, Layout
from come.models import Bundle

_F32, _F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
_BF16, _Q8_0 = GGMLQuantizationType.BF16, GGMLQuantizationType.Q8_0
KINDS = {"float32": _F32, "bfloat16": _BF16, "float16": _F16, "q8_0": _Q8_0}
"""How the maps of a model are stored, by dtype."""

_ROUNDING = {_F32: 0.0, _BF16: 2.0**-8, _F16: 2.0**-11, _Q8_0: 0.6 / 127}  # at most, of a value; of a block's largest
_LEAST = {_F32: 0.0, _BF16: 0.0, _F16: 2.0**-24, _Q8_0: 2.0**-17}  # what rounds to nothing
_AT_ONCE = 1 << 24  # how many values are compared at once


@dataclass(frozen=True)
class Entry:
    """One tensor of a file.

    Attributes:
        source: what the model calls it.
        name: what the file calls it.
        kind: how its values are stored.
        shape: in the file, rows first.
        values: makes them, in the layout of the file and the dtype of the model.
    """

    source: str
    name: str
    kind: GGMLQuantizationType
    shape: tuple[int, ...]
    values: Callable[[], Tensor]

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


def entries_of(bundle: Bundle, layout: Layout, dtype: str) -> list[Entry]:
    """All tensors of a model's file, where its maps are stored in a dtype of ``KINDS``.

    Raises:
        ComeError: GGUF has no place for one of its weights.
    """
    entries = list(_weights(bundle, layout, KINDS[dtype]))
    factors = gguf_families.rope_factors(bundle.model.config)
    if factors is not None:
        name = "rope_freqs.weight"
        entries.append(Entry(name, name, _F32, tuple(factors.shape), lambda: factors))
    return entries


def _weights(bundle: Bundle, layout: Layout, kind: GGMLQuantizationType) -> Iterator[Entry]:
    config = bundle.model.config
    (arch,) = (arch for arch, name in MODEL_ARCH_NAMES.items() if name == layout.arch)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    seen: set[int] = set()
    for source, weight in bundle.model.state_dict(keep_vars=True).items():
        if id(weight) in seen:  # a head that is the embeddings: readers take those where the file has none
            continue
        seen.add(id(weight))
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ComeError(f"GGUF has no place for the weight {source}.", FOLDER_INSTEAD)
        change = gguf_families.change_of(source, config, layout)
        shape = tuple(change(weight.to("meta")).shape)
        yield Entry(source, name, _stored(kind, name, shape), shape, partial(change, weight.detach()))


def _stored(kind: GGMLQuantizationType, name: str, shape: tuple[int, ...]) -> GGMLQuantizationType:
    """How a tensor is stored where the maps are of a kind."""
    if len(shape) < 2 or name.startswith("position_embd"):
        return _F32
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else _F16


def stored(entry: Entry) -> np.ndarray:
    """A tensor as the file holds it.

    Raises:
        ComeError: a weight is too large for float16.
    """
    values = entry.values()
    if entry.kind == _BF16:
        return values.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if entry.kind != _F16:
        return quantize(values.float().contiguous().numpy(), entry.kind)
    half = values.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise ComeError(f"Weights of {entry.source} are too large for float16.", "Choose bfloat16.")
    return half.contiguous().numpy()


def check(path: Path, entries: Sequence[Entry]) -> None:
    """See that a file holds these tensors and no others, with the model's values but for the rounding of their kinds.

    Raises:
        ComeError: it does not.
    """
    found = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    for entry in entries:
        tensor = found.pop(entry.name, None)
        if tensor is None or tensor.tensor_type != entry.kind or not _holds(tensor.data, entry):
            raise _differs(entry.source)
    for name in found:
        raise _differs(name)


def _holds(data: np.ndarray, entry: Entry) -> bool:
    columns = entry.shape[-1]
    wanted, rows = entry.values().reshape(-1, columns), data.reshape(-1, data.shape[-1])
    if len(wanted) != len(rows):
        return False
    block = GGML_QUANT_SIZES[entry.kind][0]
    for some in torch.arange(len(wanted)).split(max(1, _AT_ONCE // columns)):
        mine = wanted[some].float().numpy().reshape(-1, block)
        theirs = dequantize(rows[some.numpy()], entry.kind).reshape(-1, block)
        largest = np.abs(mine).max(axis=1, keepdims=True)
        if not (np.abs(mine - theirs) <= _ROUNDING[entry.kind] * largest + _LEAST[entry.kind]).all():
            return False
    return True


def _differs(name: str) -> ComeError:
    return ComeError(
        f"The GGUF file does not hold the model: {name} is another one when it is read back.",
        "Write it again, on another disk if that happens twice.",
    )
