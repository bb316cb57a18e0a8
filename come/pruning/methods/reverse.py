"""Reverse order: remove the last layers ("Reassessing Layer Pruning in LLMs", Lu et al. 2024, arXiv 2411.15558)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from come.errors import ComeError
from come.pruning.forecast import Forecast, Known
from come.pruning.method import Task
from come.pruning.options import RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


class ReverseOptions(RemovalOptions):
    """Where the removed block ends."""

    keep_last: int = Field(0, ge=0, description="How many of the very last layers are kept; the paper keeps none.")

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse to keep more layers than are left.

        Raises:
            ComeError: keep_last is more than the target.
        """
        if self.keep_last > target:
            raise ComeError(
                f"The last {self.keep_last} of {layers} layers cannot be kept where {target} are left.",
                f"Give a keep_last of at most {target}.",
            )


def last_block(layers: int, target: int, keep_last: int) -> range:
    """The block of layers that ends ``keep_last`` layers before the end."""
    return range(target - keep_last, layers - keep_last)


def forecast(known: Known, options: ReverseOptions) -> Forecast:
    """The last block, whatever the model does."""
    return Forecast(removed=list(last_block(known.layers, known.target_layers, options.keep_last)))


@register(
    "reverse",
    title="Reverse order",
    paper="Lu et al. 2024, arXiv 2411.15558",
    summary="Remove the last layers; the paper then fine-tunes the head, the final norm and the last three that "
    "stay, as recovery can.",
    kind="remove",
    options=ReverseOptions,
    cost="Nothing: no text is read.",
    forecast=forecast,
)
def reverse(task: Task, options: ReverseOptions) -> Result:
    """Remove the ``last_block``."""
    if task.finished:
        return Result(task.current, task.plan)
    block = last_block(len(task.original.layers), task.target_layers, options.keep_last)
    return remove(task, options, block)
