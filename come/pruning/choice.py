"""How a window is chosen, and all that its ratio may be decided on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from come.errors import ComeError
from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Bundle
from come.plan.steps import Concatenate
from come.pruning.select import Window


@dataclass(frozen=True)
class SelectionOptions:
    """How windows are chosen, whatever decides their ratio.

    Attributes:
        span: how many adjacent layers one merge takes.
        no_repeat: leave layers alone that are merges already, as long as others are left.
        sbi_tokens: take SBI over "all" tokens, or over the "last" of each sequence.
        last_state: take the last hidden state "normed" or "raw".
        windows: merge these windows of original layers, (first, last) inclusive, instead of choosing.
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states at layer borders; a quarter of the free memory by default.
        refit: after each merge, move the new layer's output map to the closed-form best on the calibration tokens.
    """

    span: int = 2
    no_repeat: bool = True
    sbi_tokens: Literal["all", "last"] = "all"
    last_state: Literal["normed", "raw"] = "normed"
    windows: list[Window] | None = None
    batch_size: int | None = None
    memory_budget: int | None = None
    refit: bool = False

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        check_pass(self.batch_size, self.memory_budget)


def check_pass(batch_size: int | None, memory_budget: int | None = None) -> None:
    """Refuse what no pass of tokens through a model can be made with.

    Raises:
        ComeError: a batch of no sequences, or a negative memory budget.
    """
    if batch_size is not None and batch_size < 1:
        raise ComeError("A batch needs at least one sequence.", "Give a batch_size of 1 or more.")
    if memory_budget is not None and memory_budget < 0:
        raise ComeError("A memory budget cannot be negative.", "Give bytes, or nothing for a quarter of what is free.")


@dataclass(frozen=True)
class Choice:
    """A window that is to be merged next, and all that its ratio may be decided on.

    Attributes:
        bundle: the model that the window is of.
        window: (first, last), in the numbering of ``bundle``.
        influence: BI of each layer of the window.
        kv_groups: for each layer of the window, the sensitivity of its KV groups, (kv_heads,).
        channels: for each layer of the window, the sensitivity of its FFN channels, (channels,).
        stands_for: how many original layers the window stands for.
        ratio: given by hand, if it is.
        borders: hidden states that enter the layers of ``bundle``, true up to the window's first.
    """

    bundle: Bundle
    window: Window
    influence: list[float]
    kv_groups: list[Tensor]
    channels: list[Tensor]
    stands_for: int
    ratio: Sequence[float] | None = None
    borders: HiddenStateCache | None = None


Decide = Callable[[Choice], Concatenate]
"""Makes the step of a window that was chosen."""
