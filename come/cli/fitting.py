"""The options that say what a model has to fit into, and the layers that they come to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from come.cli.request import HOW_FAR, check_device
from come.cli.screen import progress
from come.errors import ComeError
from come.request import CONTEXT, RunConfig
from come.runs import ClusterTarget

MaxMemory = Annotated[
    str | None,
    typer.Option(help="Or: as many as fit into, say, 250MiB with their keys and values.", rich_help_panel=HOW_FAR),
]
Context = Annotated[
    int | None,
    typer.Option(min=1, help=f"Tokens of these keys and values (else {CONTEXT:,}).", rich_help_panel=HOW_FAR),
]
MaxBytes = Annotated[str | None, typer.Option(help="Or: as many as are saved in, say, 200MB.", rich_help_panel=HOW_FAR)]
Speedup = Annotated[
    float | None,
    typer.Option(
        help="Or: as many as write, say, 1.3 times as fast; the original is timed here, once.", rich_help_panel=HOW_FAR
    ),
]


@dataclass(frozen=True)
class Limits:
    """What somebody has: memory with keys and values of so many tokens, bytes of a file, a speed-up to reach."""

    max_memory: str | None = None
    context: int | None = None
    max_bytes: str | None = None
    speedup: float | None = None

    def __bool__(self) -> bool:
        return any(each is not None for each in (self.max_memory, self.context, self.max_bytes, self.speedup))


def with_layers_for(config: RunConfig, target: ClusterTarget | None, limits: Limits) -> RunConfig:
    """The request with the most layers that meet all of the limits.

    Args:
        config: a request that says nothing of how far to prune.
        target: where it is to run; None is here.
        limits: at least one.

    Raises:
        ComeError: none meets them, or they cannot be given so.
    """
    from come.estimation.resolve import with_layers_for

    if limits.context is not None and limits.max_memory is None:
        raise ComeError("--context goes with --max-memory.", "Give both, or leave it out.")
    if limits.speedup is not None and target is not None:
        raise ComeError(
            "--speedup goes by times of this machine, and the run is to work on another.",
            "Give --target-layers, or leave out --on.",
        )
    check_device(config.device)
    with progress() as on_progress:
        return with_layers_for(
            config, limits.max_memory, limits.max_bytes, limits.speedup, limits.context or CONTEXT, on_progress
        )
