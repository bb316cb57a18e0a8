"""Magnitude: remove the layers of the smallest weights (Shortened LLaMA, Kim et al. 2024, arXiv 2402.02834).

What is scored are the weights of a layer's linear maps, as the paper's text has it; its published code adds the norms.
"""

from __future__ import annotations

import time
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner, check_finite
from come.models import Bundle, Family
from come.pruning.common import lowest
from come.pruning.method import Task
from come.pruning.options import RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result

KEPT_FIRST, KEPT_LAST = 4, 2  # by the paper's variants with a plus


class MagnitudeOptions(RemovalOptions):
    """Which layers may go."""

    plus: bool = Field(
        True, description="Keeps the first four and the last two layers, as the paper's better variant does."
    )

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse to remove more layers than may go; see ``check_candidates``."""
        check_candidates(self.plus, layers, target)


def check_candidates(plus: bool, layers: int, target: int) -> None:
    """Refuse to remove more layers than may go.

    Raises:
        ComeError: ``plus`` keeps too many.
    """
    candidates = len(removable(plus, layers))
    if layers - target > candidates:
        raise ComeError(
            f"The first {KEPT_FIRST} and the last {KEPT_LAST} of {layers} layers are kept, so that {candidates} can be "
            f"removed, not {layers - target}.",
            f"Leave {layers - candidates} layers or more, or give plus=False.",
        )


def removable(plus: bool, layers: int) -> range:
    """The layers that may go: without ``plus`` all of them."""
    return range(KEPT_FIRST, layers - KEPT_LAST) if plus else range(layers)


@register(
    "magnitude",
    title="Magnitude",
    paper="Kim et al. 2024, arXiv 2402.02834",
    summary="Remove the layers of lowest sum of abs(w), by default of those in the middle.",
    kind="remove",
    options=MagnitudeOptions,
    cost="One look at the weights: no text is read.",
)
def magnitude(task: Task, options: MagnitudeOptions) -> Result:
    """Remove the layers of lowest ``magnitudes``, the first on ties."""
    if task.finished:
        return Result(task.current, task.plan)
    layers = len(task.original.layers)
    began = time.perf_counter()
    gone = lowest(magnitudes(task.original), layers - task.target_layers, removable(options.plus, layers))
    return remove(task, options, gone, seconds=time.perf_counter() - began)


@torch.inference_mode()
def magnitudes(bundle: Bundle) -> Tensor:
    """The sum of abs(w) over each layer's linear maps, (layers,), float32.

    Raises:
        ComeError: weights are not finite.
    """
    family = bundle.family
    sums = torch.tensor(
        [
            sum(float(family.matrix(layer, path).abs().sum(dtype=torch.float32)) for path in linear_paths(family))
            for layer in bundle.layers
        ]
    )
    check_finite(sums, LayerRunner(bundle))
    return sums


def linear_paths(family: Family) -> tuple[str, ...]:
    """Where the linear maps of a layer are."""
    return (*family.attention_paths, *family.ffn_paths)
