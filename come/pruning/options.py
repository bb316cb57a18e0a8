"""The options that baselines share: how the calibration tokens go through the model."""

from __future__ import annotations

from dataclasses import dataclass

from come.pruning.choice import check_pass


@dataclass(frozen=True)
class NoOptions:
    """Of a method that leaves nothing to choose."""


@dataclass(frozen=True)
class PassOptions:
    """How a pass is made.

    Attributes:
        batch_size: sequences at a time; about 2,048 tokens by default.
    """

    batch_size: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        check_pass(self.batch_size)


@dataclass(frozen=True)
class CachedPassOptions(PassOptions):
    """How passes are made that start from kept hidden states.

    Attributes:
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states at layer borders; a quarter of the free memory by default.
    """

    memory_budget: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        check_pass(self.batch_size, self.memory_budget)
