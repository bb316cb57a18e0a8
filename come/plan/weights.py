"""The tensors of a plan's steps: in memory as long as they are new, else in safetensors files beside the plan."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
from torch import Tensor

from come import reading
from come.errors import ComeError, reason_of
from come.files import written_whole


@dataclass
class Weights:
    """Where a plan finds the tensors of its steps.

    Attributes:
        folder: where the files of a plan that was read lie.
        fresh: files that were not written yet, by name.
    """

    # Not compared: steps name their files by hash, so plans are equal wherever those lie.
    folder: Path | None = field(default=None, compare=False)
    fresh: dict[str, bytes] = field(default_factory=dict, compare=False)

    def copy(self) -> Weights:
        """The same, to add to."""
        return Weights(self.folder, dict(self.fresh))

    def add(self, tensors: Mapping[str, Tensor]) -> tuple[str, str]:
        """Take in tensors; returns the name of their file and its SHA-256."""
        data = safetensors.torch.save({name: tensors[name].detach().cpu().contiguous() for name in sorted(tensors)})
        sha256 = hashlib.sha256(data).hexdigest()
        file = f"weights-{sha256[:12]}.safetensors"
        self.fresh[file] = data
        return file, sha256

    def read(self, file: str, sha256: str) -> dict[str, Tensor]:
        """The tensors of a file.

        Raises:
            ComeError: the file is not there, is not the one that was written, or holds what is no number.
        """
        data = self.bytes_of(file)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ComeError(
                f"The weights in {file} are not those that the plan was written with.",
                "Take the file that the run left beside plan.json.",
            )
        try:
            tensors = safetensors.torch.load(data)
        except Exception as error:  # safetensors has classes of its own, and torch others
            raise reading.unreadable(file, reason_of(error)) from error
        reading.require_finite(file, tensors)
        return tensors

    def bytes_of(self, file: str) -> bytes:
        """A file as it is.

        Raises:
            ComeError: it is not there, or is no file that can be read.
        """
        if file in self.fresh:
            return self.fresh[file]
        try:
            if self.folder is not None:
                return reading.bytes_of(self.folder / file, None)
        except FileNotFoundError:
            pass
        raise missing(file)

    def has(self, file: str) -> bool:
        """Whether a file is there."""
        return file in self.fresh or (self.folder is not None and (self.folder / file).is_file())

    def write(self, folder: Path, file: str) -> None:
        """Leave a file in a folder, unless it is there already."""
        target = folder / file
        if target.exists():
            return
        data = self.bytes_of(file)
        with written_whole(target) as temporary:
            temporary.write_bytes(data)


def missing(file: str) -> ComeError:
    """That a file of weights is not where its plan is."""
    return ComeError(
        f"The plan needs the weights in {file}, which are not beside it.",
        "Keep plan.json and the .safetensors files that the run left beside it together.",
    )
