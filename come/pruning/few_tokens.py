"""The options of methods that score many candidates on part of the calibration tokens, as their papers do."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from come.errors import ComeError
from come.pruning.options import PassOptions


@dataclass(frozen=True)
class FewTokensOptions(PassOptions):
    """Which part of the calibration tokens is looked at.

    Attributes:
        sequences: the first so many sequences; none for all.
        seq_len: the first so many tokens of each; none for all.
        batch_size: sequences at a time; about 2,048 tokens by default.
    """

    sequences: int | None = 10
    seq_len: int | None = 128

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        for name, value, least in (("sequences", self.sequences, 1), ("seq_len", self.seq_len, 2)):
            if value is not None and value < least:
                raise ComeError(f"The option {name} cannot be {value}.", f"Give {least} or more.")

    def few(self, tokens: Tensor) -> Tensor:
        """That part, int64 (sequences, tokens)."""
        return tokens[: self.sequences, : self.seq_len]
