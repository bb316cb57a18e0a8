"""The safetensors files of a model's folder, by the rule that Transformers reads them by. No weights are loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sized
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from come.bounded_json import plain_file
from come.errors import ComeError
from come.models.safetensors_header import AGAIN, again, header_of
from come.models.small_files import read_small_json
from come.models.text_tower import plain_name

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"

# What old files hold beside the weights, and models of today make anew: masks, positions, rotary frequencies.
MADE_ANEW = re.compile(r"rotary(_emb)?\.inv_freq$|attn\.(masked_)?bias$|attention\.(masked_)?bias$|position_ids$")
_OF_MANY_MACHINES = re.compile(r"shard-\d{5}-model-\d{5}-of-\d{5}\.safetensors")
_POINTER = b"version https://git-lfs"


def weight_files(folder: Path) -> list[Path]:
    """The files that a folder's weights are in: model.safetensors, else those that its index names.

    Raises:
        ComeError: there are none, one is not there, or the index names anything but .safetensors files of the folder.
    """
    if any(_OF_MANY_MACHINES.fullmatch(path.name) for path in folder.iterdir()):
        raise ComeError(
            f"{folder} holds a checkpoint in pieces of several machines (shard-...-model-...), which is not read.",
            "Save it as one model with save_pretrained.",
        )
    if (folder / SINGLE).is_file():
        return [whole(folder / SINGLE)]
    if not (folder / INDEX).is_file():
        raise ComeError(
            f"{folder} has no safetensors weights, and pickled ones are not loaded.",
            "Save it again with save_pretrained.",
        )
    return [whole(folder / name) for name in _indexed(folder)]


def _indexed(folder: Path) -> list[str]:
    """The names of the files that a folder's index names, each once."""
    places = read_small_json(folder / INDEX).get("weight_map")
    if not isinstance(places, dict):
        raise ComeError(f"{folder / INDEX} is no index of weights.", AGAIN)
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ComeError(
                f"The index of {folder} names {str(name)[:100]!r}, which is no .safetensors file of that folder.",
                "Do not trust this model; or save it again with save_pretrained.",
            )
    names = set(places.values())
    if missing := sorted(name for name in names if not (folder / name).is_file()):
        raise ComeError(
            f"{folder} lacks {len(missing)} of the {len(names)} files that its index names, the first: {missing[0]}.",
            again(folder / missing[0]),
        )
    return sorted(names)


def whole(path: Path) -> Path:
    """A file of weights, seen to be one.

    Raises:
        ComeError: it is cut short or damaged, or a pointer of git-lfs.
    """
    with plain_file(path) as file:
        if file.read(len(_POINTER)) == _POINTER:
            raise ComeError(
                f"{path} is a pointer of git-lfs, not the weights themselves.", "Run `git lfs pull` in its folder."
            )
    header_of(path)
    try:
        with safe_open(path, "pt"):
            return path
    except SafetensorError as error:
        raise ComeError(f"{path} cannot be read: it is cut short or damaged.", again(path)) from error


def places_of(folder: Path) -> dict[str, Path]:
    """The file that each weight of a folder is in, by its name there.

    Raises:
        ComeError: as ``weight_files``.
    """
    found: dict[str, Path] = {}
    for path in weight_files(folder):
        found |= dict.fromkeys(header_of(path), path)
    return found


def stored(folder: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """The dtype, as safetensors spells it ("BF16"), and the shape of each weight of a folder, by its name there.

    Raises:
        ComeError: as ``weight_files``.
    """
    found: dict[str, tuple[str, tuple[int, ...]]] = {}
    for path in weight_files(folder):
        found |= header_of(path)
    return found


def plain_places_of(folder: Path) -> dict[str, tuple[Path, str]]:
    """The file that each weight of a folder is in, and its name there, by its name in a plain language model.

    Raises:
        ComeError: as ``weight_files``.
    """
    return {plain_name(name): (path, name) for name, path in places_of(folder).items()}


def read_tensor(path: Path, name: str) -> Tensor:
    """One weight of a file of weights."""
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)  # type: ignore[no-any-return]


def hold_apart(folder: Path, first: str, second: str) -> bool:
    """Whether a folder's files hold both of two weights, and not the same values in them."""
    places = plain_places_of(folder)
    if first not in places or second not in places:
        return False
    return not torch.equal(read_tensor(*places[first]), read_tensor(*places[second]))


def one_matrix_twice(folder: Path, first: str, second: str) -> bool:
    """Whether two weights of a folder are one matrix that was rounded in two ways: going by their first rows."""
    places, rows = plain_places_of(folder), []
    for name in (first, second):
        if name not in places:
            return False
        path, there = places[name]
        with safe_open(path, "pt") as file:
            rows.append(file.get_slice(there)[:64].float())
    if rows[0].shape != rows[1].shape or torch.equal(*rows):
        return False
    return bool((torch.cosine_similarity(rows[0], rows[1], dim=-1) > 0.99).all())


def in_order(names: Iterable[str]) -> list[str]:
    """Names of weights, layer 2 before layer 10."""
    return sorted(names, key=lambda name: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)])


def count(names: Sized) -> str:
    """So many weights, in words."""
    return f"{len(names)} weight{'s' if len(names) > 1 else ''}"
