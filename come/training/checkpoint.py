"""What a killed recovery goes on from: safetensors files whose header holds the rest as JSON, each replaced whole.

Each has a checksum. One that is damaged is made anew, which the log says: a resumed run ends with the same bits as an
undisturbed one.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from come import reading
from come.errors import ComeError
from come.files import disk_sentence, replacing

LOG = logging.getLogger(__name__)
Kind = TypeVar("Kind")
IDENTITY = "request.json"
SUM = "sum"  # the checksum of the rest of it
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, by parameter


def open_folder(folder: Path, identity: Mapping[str, str]) -> None:
    """Make a folder ready for the checkpoints of a request, or find those of the same one in it.

    Raises:
        ComeError: it holds those of another request, or cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / IDENTITY
        known = _identity_in(file)
        if known is None:
            with replacing(file) as temporary:
                kept = dict(identity) | {SUM: _sum({}, json.dumps(dict(identity)))}
                temporary.write_text(json.dumps(kept), encoding="utf-8")
            known = dict(identity)
    except OSError as error:
        raise ComeError(
            f"Checkpoints cannot be kept in {folder}: {error.strerror}.", "Choose another folder."
        ) from error
    if known != dict(identity):
        differs = ", ".join(name for name, value in identity.items() if known.get(name) != value)
        raise ComeError(
            f"The checkpoints in {folder} are of another request (another {differs}).",
            "Choose another folder, or ask for the same again.",
        )


def _identity_in(file: Path) -> dict[str, str] | None:
    """The request that a folder's checkpoints are of; None where it is not there, or not as it was written."""
    try:
        known = reading.values_in(reading.bytes_of(file), str(file))
    except (FileNotFoundError, ComeError):
        return None
    if not isinstance(known, dict):
        return None
    written = known.pop(SUM, None)  # none before there was one
    return known if written in (None, _sum({}, json.dumps(known))) else None


def write_state(file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors with a state in one file, which a reader sees whole or not at all.

    Raises:
        ComeError: the disk is full or may not be written to.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(dict(state))
    try:
        with replacing(file) as temporary:
            save_file(kept, temporary, metadata={"state": text, "sum": _sum(kept, text)})
    except Exception as error:  # safetensors reports a full disk in a class of its own
        if (told := disk_sentence(error, file.parent)) is not None:
            raise told from error
        if isinstance(error, OSError):
            what = f"The checkpoint {file.name} cannot be written: {error.strerror or error}."
            raise ComeError(what, "Free some disk space, or choose another folder.") from error
        raise


def read_state(file: Path | None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state of a file; None where there is none, or where it is damaged, which the log then says."""
    if file is None:
        return None
    try:
        tensors, told = reading.tensors_of(file)
        text = told.get("state", "")
        if told.get("sum") != _sum(tensors, text):
            raise reading.unreadable(file, "it is not as it was written")
        return tensors, dict(json.loads(text))
    except FileNotFoundError:
        return None
    except (ComeError, ValueError) as error:
        say_made_anew(file, error)
        return None


def say_made_anew(file: Path | None, error: Exception) -> None:
    """Tell the log that a checkpoint is of no use, and why."""
    LOG.warning("%s The checkpoint %s is made anew.", error, file)


def _sum(tensors: Mapping[str, Tensor], text: str) -> str:
    """A checksum over all that a file holds."""
    found = zlib.crc32(text.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found = zlib.crc32(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode(), found)
        found = zlib.crc32(tensor.reshape(-1).view(torch.uint8).numpy().data, found)
    return f"crc32 {found:08x}"


def keep_training(
    file: Path,
    state: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write how far a training got, its weights now and at their best, and AdamW's moments, to a file.

    Of a training that is finished, without parameters, only the best weights are written.

    Raises:
        ComeError: the disk is full or may not be written to.
    """
    tensors = {f"best.{name}": value for name, value in best.items()}
    for name, parameter in parameters.items():
        tensors[f"now.{name}"] = parameter
        tensors |= {f"{key}.{name}": torch.as_tensor(value) for key, value in optimizer.state[parameter].items()}
    write_state(file, tensors, state)


def restore_training(
    file: Path | None,
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
    kind: Callable[..., Kind],
) -> Kind | None:
    """Put what a file holds in place, and return how far the training got; None where there is no file that fits.

    Args:
        file: as ``keep_training`` wrote it.
        parameters, best, optimizer: what is put in place: all of it, or nothing.
        kind: made of the state.
    """
    kept = read_state(file)
    if kept is None:
        return None
    tensors, state = kept
    moments: dict[int, dict[str, Tensor]] = {}
    try:
        found = kind(**state)
        for number, (name, parameter) in enumerate(parameters.items()):
            for key in ("best", "now") if f"now.{name}" in tensors else ("best",):
                if tensors[f"{key}.{name}"].shape != parameter.shape:
                    raise ValueError(f"{name} has another shape")
            if f"step.{name}" in tensors:  # one that never had a gradient has none
                moments[number] = {key: tensors[f"{key}.{name}"] for key in MOMENTS}
    except (KeyError, TypeError, ValueError) as error:
        say_made_anew(file, error)
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            best[name].copy_(tensors[f"best.{name}"])
            if f"now.{name}" in tensors:
                parameter.copy_(tensors[f"now.{name}"])
    if moments:
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return found
