"""Reverse order: remove the last layers ("Reassessing Layer Pruning in LLMs", Lu et al. 2024, arXiv 2411.15558)."""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError
from come.pruning.forecast import Forecast, Known
from come.pruning.registry import Task, register
from come.pruning.removal import remove
from come.pruning.result import Result


@dataclass(frozen=True)
class ReverseOptions:
    """Where the removed block ends.

    Attributes:
        keep_last: how many of the very last layers are kept; the paper keeps none.
    """

    keep_last: int = 0

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        if self.keep_last < 0:
            raise ComeError(f"{self.keep_last} last layers cannot be kept.", "Give keep_last as 0 or more.")

    def check(self, layers: int, target: int) -> None:
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
    summary="Remove the last layers; the paper then fine-tunes the head and the last three that stay, as recovery can.",
    options=ReverseOptions,
    cost="Nothing: no text is read.",
    forecast=forecast,
)
def reverse(task: Task, options: ReverseOptions) -> Result:
    """Remove the ``last_block``."""
    if task.plan.steps:
        return Result(task.current, task.plan)
    return remove(task, last_block(len(task.original.layers), task.target_layers, options.keep_last))
