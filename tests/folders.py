"""Folders and files of models, changed by hand: what people's own models are like."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFWriter
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

Weights = dict[str, Tensor]


def edit_json(path: Path, **values: Any) -> None:
    """Set entries of a JSON file; None removes one."""
    told = {**json.loads(path.read_text("utf-8")), **values}
    path.write_text(json.dumps({name: value for name, value in told.items() if value is not None}), "utf-8")


def edit_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    """Change the weights of a folder with one file of them."""
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def shard(folder: Path, files: int = 3) -> list[Path]:
    """Deal the weights of a folder out to several files, with an index."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    paths = [folder / f"model-{number + 1:05}-of-{files:05}.safetensors" for number in range(files)]
    for number, path in enumerate(paths):
        save_file({name: weights[name] for name in names[number::files]}, path, {"format": "pt"})
    places = {name: paths[index % files].name for index, name in enumerate(names)}
    size = sum(each.numel() * each.element_size() for each in weights.values())
    index = {"metadata": {"total_size": size}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    (folder / "model.safetensors").unlink()
    return paths


def edit_gguf(source: Path, path: Path, change: Callable[[dict[str, np.ndarray]], object], **values: Any) -> Path:
    """Copy a .gguf file of float32 weights with other tensors; values are more metadata, "." spelled "__"."""
    reader = GGUFReader(source)
    tensors = {each.name: np.array(each.data) for each in reader.tensors}
    change(tensors)
    writer = GGUFWriter(path, str(reader.fields["general.architecture"].contents()))
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        writer.add_key_value(name, field.contents(), field.types[0], *field.types[1:2])
    for name, value in values.items():
        writer.add_string(name.replace("__", "."), value)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def dtypes_of(path: Path) -> set[str]:
    """The dtypes in a file of weights, as safetensors spells them."""
    with safe_open(path, "pt") as file:
        return {file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118 - not a dict


def as_fp8(weights: Weights, block: int = 16) -> None:
    """Maps of layers in blocks of 8-bit floats with a scale each, as Qwen3's FP8 files have them."""
    for name in [each for each in weights if ".layers." in each and weights[each].dim() == 2]:
        rows, columns = weights[name].shape
        padded = torch.nn.functional.pad(weights[name].float(), (0, -columns % block, 0, -rows % block))
        tiles = padded.view(padded.shape[0] // block, block, padded.shape[1] // block, block)
        scales = tiles.abs().amax((1, 3)) / 448
        packed = (tiles / scales[:, None, :, None]).view(padded.shape)[:rows, :columns]
        weights[name] = packed.contiguous().to(torch.float8_e4m3fn)
        weights[f"{name}_scale_inv"] = scales
