"""What a killed recovery goes on from: safetensors files whose header holds the rest as JSON, each replaced whole."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from come.errors import ComeError
from come.files import replacing

IDENTITY = "request.json"


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
                temporary.write_text(json.dumps(dict(identity)), encoding="utf-8")
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
    """The request that a folder's checkpoints are of; None where it is not there, or was left torn by a full disk."""
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return known if isinstance(known, dict) else None


def write_state(file: Path, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write tensors with a state in one file, which a reader sees whole or not at all.

    Raises:
        ComeError: the disk is full or may not be written to.
    """
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        with replacing(file) as temporary:
            save_file(kept, temporary, metadata={"state": json.dumps(dict(state))})
    except Exception as error:  # safetensors reports a full disk in a class of its own
        if isinstance(error, OSError) or "No space left" in str(error):
            raise ComeError(
                f"The checkpoint {file.name} cannot be written: {getattr(error, 'strerror', None) or error}.",
                "Free some disk space, or choose another folder.",
            ) from error
        raise


def read_state(file: Path | None) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and state of a file; None where there is none."""
    if file is None or not file.exists():
        return None
    with safe_open(file, framework="pt") as kept:
        tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - not a dict
        return tensors, json.loads(kept.metadata()["state"])
