"""Hidden states of all tokens at a layer border: in memory while they fit a budget, else in files that go at the end.

Only the borders that are being worked on are ever kept; the next ones are made from them, batch by batch.
"""

from __future__ import annotations

import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor

from come.errors import ComeError
from come.files import human_bytes
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.processes import temporary_folder


class States:
    """The hidden states of all tokens at one border, (sequences, tokens, hidden_size), on the CPU.

    One that lies in a file can be handed to another process, which maps the file instead of copying it.
    """

    def __init__(self, shape: tuple[int, int, int], dtype: torch.dtype, path: Path | None = None) -> None:
        self.shape, self.dtype, self.path = shape, dtype, path
        self.tensor = torch.empty(shape, dtype=dtype) if path is None else _mapped(path, shape, dtype)

    def __getitem__(self, sequences: Tensor | slice) -> Tensor:
        """The states of some sequences."""
        return self.tensor[sequences]

    def __getstate__(self) -> dict[str, Any]:
        kept = {"shape": self.shape, "dtype": self.dtype, "path": self.path}
        return kept if self.path is not None else kept | {"tensor": self.tensor}

    def __setstate__(self, kept: dict[str, Any]) -> None:
        self.__dict__ |= kept
        if self.path is not None:
            self.tensor = _mapped(self.path, self.shape, self.dtype)

    def drop(self) -> None:
        """Give the room back; the states are gone."""
        self.tensor = torch.empty(0)
        if self.path is not None:
            self.path.unlink(missing_ok=True)


class StateStore:
    """Room for the hidden states of all tokens at a few borders at once. A context: files are gone at its end."""

    def __init__(
        self,
        tokens: Tensor,
        hidden_size: int,
        dtype: torch.dtype,
        borders: int = 2,
        budget: int | None = None,
        in_files: bool = False,
    ) -> None:
        """Choose between memory and files.

        Args:
            tokens: int64 (sequences, tokens).
            hidden_size: channels of a hidden state.
            dtype: what the states are kept in.
            borders: how many borders are kept at once, at most.
            budget: bytes; a quarter of the free memory by default.
            in_files: files whatever the budget, so that other processes can read them.
        """
        self._shape, self._dtype = (*tokens.shape, hidden_size), dtype
        room = budget if budget is not None else psutil.virtual_memory().available // 4
        self._bytes = tokens.numel() * hidden_size * dtype.itemsize
        self._in_files = in_files or borders * self._bytes > room
        self._made = 0
        self._folder: Path | None = None
        self._held = ExitStack()

    def __enter__(self) -> StateStore:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def new(self) -> States:
        """States to fill.

        Raises:
            ComeError: they need files, and the disk has no room for them.
        """
        if not self._in_files:
            return States(self._shape, self._dtype)
        if self._folder is None:
            self._folder = self._held.enter_context(temporary_folder("come-states-"))
        free = shutil.disk_usage(self._folder).free
        if free < self._bytes:
            raise ComeError(
                f"Hidden states of {human_bytes(self._bytes)} do not fit the {human_bytes(free)} free in "
                f"{self._folder.parent}.",
                "Give fewer tokens or a larger memory_budget, or free some disk space.",
            )
        self._made += 1
        return States(self._shape, self._dtype, self._folder / f"{self._made}.states")


@torch.no_grad()
def embed(runner: LayerRunner, tokens: Tensor, states: States, batch_size: int | None = None) -> States:
    """Fill ``states`` with what enters the first layer."""
    for rows, part in _parts(tokens, batch_size):
        states.tensor[rows] = runner.enter(part).to("cpu", states.dtype)
    return states


@torch.no_grad()
def advance(
    runner: LayerRunner,
    tokens: Tensor,
    states: States,
    layers: range,
    into: States | None = None,
    batch_size: int | None = None,
) -> States:
    """Run layers over the states that enter the first of them, batch by batch.

    Args:
        runner: the model.
        tokens: int64 (sequences, tokens); the layers' masks and rotary tables follow from their shape.
        states: what enters the first layer.
        layers: which layers, in order.
        into: where what leaves the last goes; in the place of ``states`` by default.
        batch_size: sequences at a time; about 2,048 tokens by default.
    """
    into = into or states
    if layers or into is not states:
        for rows, part in _parts(tokens, batch_size):
            entered = runner.enter(part)
            hidden_states = states[rows].to(entered.device, entered.dtype)
            for layer in layers:
                hidden_states = runner.run(layer, hidden_states)
            into.tensor[rows] = hidden_states.to("cpu", into.dtype)
    return into


def _parts(tokens: Tensor, batch_size: int | None) -> list[tuple[slice, Tensor]]:
    parts, start = [], 0
    for batch in batches(tokens, batch_size):
        parts.append((slice(start, start + len(batch.tokens)), batch.tokens))
        start += len(batch.tokens)
    return parts


def _mapped(path: Path, shape: tuple[int, int, int], dtype: torch.dtype) -> Tensor:
    """A tensor whose bytes are those of a file, which is made where there is none."""
    return torch.from_file(str(path), shared=True, size=shape[0] * shape[1] * shape[2], dtype=dtype).view(shape)
