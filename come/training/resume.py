"""What a training goes on from: the weights as they are and as they were best, AdamW's state, and how far it got."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from come.training.checkpoint import read_state, write_state

MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def keep(
    file: Path,
    state: Mapping[str, Any],
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> None:
    """Write all of it to a file; of a training that is finished, without parameters, only the best weights.

    Raises:
        ComeError: the disk is full or may not be written to.
    """
    tensors = {f"best.{name}": value for name, value in best.items()}
    for name, parameter in parameters.items():
        tensors[f"now.{name}"] = parameter
        tensors |= {f"{key}.{name}": torch.as_tensor(value) for key, value in optimizer.state[parameter].items()}
    write_state(file, tensors, state)


def restore(
    file: Path | None,
    parameters: Mapping[str, nn.Parameter],
    best: Mapping[str, Tensor],
    optimizer: torch.optim.Optimizer,
) -> dict[str, Any] | None:
    """Put what a file holds in place, and return how far the training got; None where there is no file."""
    kept = read_state(file)
    if kept is None:
        return None
    tensors, state = kept
    moments: dict[int, dict[str, Tensor]] = {}
    with torch.no_grad():
        for number, (name, parameter) in enumerate(parameters.items()):
            best[name].copy_(tensors[f"best.{name}"])
            if f"now.{name}" in tensors:
                parameter.copy_(tensors[f"now.{name}"])
            if f"step.{name}" in tensors:  # one that never had a gradient has none
                moments[number] = {key: tensors[f"{key}.{name}"] for key in MOMENTS}
    if moments:
        optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return state
