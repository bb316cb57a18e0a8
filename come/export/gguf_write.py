"""Writing a model as one GGUF file, which llama.cpp, Ollama, LM Studio and others run; and Transformers reads back."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGML_QUANT_SIZES, GGML_QUANT_VERSION, GGMLQuantizationType, GGUFWriter, LlamaFileType
from gguf.constants import MODEL_ARCH_NAMES
from gguf.quants import quantize
from gguf.tensor_mapping import get_tensor_name_map
from gguf.utility import size_label
from safetensors import safe_open
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, emit
from come.export import gguf_families, gguf_tokenizer
from come.export.folder import check_space, unwritable
from come.export.gguf_families import FOLDER_INSTEAD, Layout
from come.files import replacing
from come.models.families import FAMILIES
from come.models.family import shape_of
from come.models.source import Source, read_config

_F32, _F16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16
_TYPES = {
    "float32": (_F32, LlamaFileType.ALL_F32),
    "bfloat16": (GGMLQuantizationType.BF16, LlamaFileType.MOSTLY_BF16),
    "float16": (_F16, LlamaFileType.MOSTLY_F16),
    "q8_0": (GGMLQuantizationType.Q8_0, LlamaFileType.MOSTLY_Q8_0),
}


@dataclass(frozen=True)
class _Entry:
    """One tensor: where it comes from, and what it is in the file."""

    source: str
    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType

    @property
    def nbytes(self) -> int:
        block, size = GGML_QUANT_SIZES[self.kind]
        return math.prod(self.shape) // block * size


def write_gguf(
    folder: str | os.PathLike[str],
    path: str | os.PathLike[str],
    dtype: str = "float16",
    license: str = "",
    on_progress: OnProgress = None,
) -> Path:
    """Write a model as a GGUF file, one tensor at a time: its weights are never all in memory.

    The file appears whole or not at all. Norms and biases are float32 whatever the dtype, as readers expect.

    Args:
        folder: the model as Transformers saves it, with safetensors; ``plan.json`` in it names the base model.
        path: the file to write; it must not exist yet.
        dtype: "float32", "bfloat16", "float16" or "q8_0" (float16 where rows are no multiple of 32 long).
        license: the base model's, as the hub spells it, such as "apache-2.0".
        on_progress: told of each tensor.

    Raises:
        ComeError: GGUF cannot hold the model's family, variant or tokenizer; there is such a file already; it cannot
            be written (no space, no permission); or a weight is too large for float16.
    """
    from come.models.auto import AutoTokenizer

    folder, path = Path(folder).expanduser(), Path(path).expanduser()
    if dtype not in _TYPES:
        raise ComeError(f"A GGUF file is not written in {dtype!r}.", f"Choose {', '.join(_TYPES)}.")
    if path.exists():
        raise ComeError(f"{path} is there already.", "Choose a new name; nothing is overwritten.")
    config = read_config(Source("folder", str(folder)))
    layout = gguf_families.layout_of(config)
    vocabulary = gguf_tokenizer.vocabulary_of(AutoTokenizer.from_pretrained(folder), config.vocab_size)
    weights = _Weights(folder)
    entries = list(_entries(weights, config, layout, dtype))
    factors = gguf_families.rope_factors(config)
    if factors is not None:
        entries.append(_Entry("", "rope_freqs.weight", tuple(factors.shape), _F32))
    check_space(path, sum(entry.nbytes for entry in entries))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            writer = GGUFWriter(temporary, layout.arch)
            try:
                _introduce(writer, folder, config, dtype, license, sum(math.prod(entry.shape) for entry in entries))
                gguf_families.describe_to(writer, config, layout)
                gguf_tokenizer.describe_to(writer, vocabulary)
                for entry in entries:
                    writer.add_tensor_info(entry.name, entry.shape, np.dtype("float32"), entry.nbytes, entry.kind)
                writer.write_header_to_file()
                writer.write_kv_data_to_file()
                writer.write_ti_data_to_file()
                for number, entry in enumerate(entries, start=1):
                    emit(on_progress, "save", number, len(entries), f"Writing {path.name} in {dtype}")
                    if entry.source:
                        change = gguf_families.change_of(entry.source, config, layout)
                        tensor = change(weights.tensor(entry.source))
                    else:
                        assert factors is not None
                        tensor = factors
                    writer.write_tensor_data(_as_written(tensor, entry))
            finally:
                writer.close()
    except OSError as error:
        raise unwritable(path.parent, error) from error
    return path


class _Weights:
    """The safetensors files of a folder, read a tensor at a time."""

    def __init__(self, folder: Path) -> None:
        index = folder / "model.safetensors.index.json"
        if index.is_file():
            names = json.loads(index.read_text("utf-8"))["weight_map"].items()
            self._files = {name: folder / file for name, file in names}
        elif (single := folder / "model.safetensors").is_file():
            with safe_open(single, "pt") as file:
                self._files = dict.fromkeys(file.keys(), single)
        else:
            raise ComeError(f"{folder} has no model.safetensors.", "Choose a folder that Transformers saved.")

    def names(self) -> list[str]:
        return list(self._files)

    def shape(self, name: str) -> tuple[int, ...]:
        with safe_open(self._files[name], "pt") as file:
            return tuple(file.get_slice(name).get_shape())

    def tensor(self, name: str) -> Tensor:
        with safe_open(self._files[name], "pt") as file:
            return file.get_tensor(name)  # type: ignore[no-any-return]


def _entries(weights: _Weights, config: Any, layout: Layout, dtype: str) -> Iterator[_Entry]:
    (arch,) = (arch for arch, name in MODEL_ARCH_NAMES.items() if name == layout.arch)
    names = get_tensor_name_map(arch, config.num_hidden_layers)
    head = f"{FAMILIES[config.model_type].head}.weight"
    for source in weights.names():
        if source == head and config.tie_word_embeddings:
            continue
        name = names.get_name(source, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise ComeError(f"GGUF has no place for the weight {source}.", FOLDER_INSTEAD)
        shape = weights.shape(source)
        if source.endswith(tuple(f"{path}.weight" for path in layout.transposed)):
            shape = shape[::-1]
        yield _Entry(source, name, shape, _kind(name, shape, dtype))


def _kind(name: str, shape: tuple[int, ...], dtype: str) -> GGMLQuantizationType:
    if len(shape) < 2 or name.startswith("position_embd"):
        return _F32
    kind, _ = _TYPES[dtype]
    return kind if shape[-1] % GGML_QUANT_SIZES[kind][0] == 0 else _F16


def _as_written(tensor: Tensor, entry: _Entry) -> np.ndarray:
    """A tensor as the file holds it."""
    if entry.kind == GGMLQuantizationType.BF16:
        return tensor.to(torch.bfloat16).contiguous().view(torch.int16).numpy()
    if entry.kind != _F16:
        return quantize(tensor.float().contiguous().numpy(), entry.kind)
    half = tensor.to(torch.float16)
    if not bool(half.isfinite().all()):
        raise ComeError(f"Weights of {entry.source} are too large for float16.", "Choose bfloat16.")
    return half.contiguous().numpy()


def _introduce(writer: GGUFWriter, folder: Path, config: Any, dtype: str, license: str, parameters: int) -> None:
    """What the model is and where it comes from."""
    plan = json.loads((folder / "plan.json").read_text("utf-8")) if (folder / "plan.json").is_file() else None
    source = plan["base"]["source"] if plan else folder.name
    base, layers = source.rstrip("/").rpartition("/")[2], shape_of(config).layers
    writer.add_type("model")
    writer.add_name(f"{base}, pruned to {layers} layers" if plan else base)
    writer.add_size_label(size_label(parameters, 0, 0, 0))
    writer.add_file_type(_TYPES[dtype][1])
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_tags(["text-generation", "come", "layer-pruning"] if plan else ["text-generation"])
    if license:
        writer.add_license(license)
    if plan is None:
        return
    writer.add_description(
        f"Made with CoMe Lab (arXiv 2510.15304) from {base} by the method {plan['method']}: {layers} of "
        f"{plan['base']['layers']} decoder layers are left. The license of the base model applies."
    )
    writer.add_base_model_count(1)
    writer.add_base_model_name(0, base)
    if "/" in source and not source.startswith((".", "/", "~")):
        writer.add_base_model_repo_url(0, f"https://huggingface.co/{source}")
