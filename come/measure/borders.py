"""Hidden states at layer borders, kept between passes so that only the layers after a change are run again."""

from __future__ import annotations

import psutil
from torch import Tensor


class Borders:
    """The hidden states H^(l) that enter layer l, for every batch, at every ``stride``-th border above the first.

    H^(0) is never kept: the embedding gives it for nothing. What is not kept is run again from the nearest border
    below, which gives the same bits, so a smaller budget costs time and changes nothing else.
    """

    def __init__(self, layers: int, hidden_size: int, n_tokens: int, itemsize: int, budget: int | None = None) -> None:
        """Choose the stride by a budget in bytes; a quarter of the free memory by default."""
        room = budget if budget is not None else psutil.virtual_memory().available // 4
        affordable = room // max(1, hidden_size * n_tokens * itemsize)
        self.stride = 1 if affordable >= layers else layers // affordable + 1 if affordable else layers + 1
        self._kept: dict[tuple[int, int], Tensor] = {}

    def put(self, batch: int, border: int, hidden_states: Tensor) -> None:
        """Keep the hidden states of a border, if it is one of those to keep."""
        if border and border % self.stride == 0:
            self._kept[batch, border] = hidden_states.cpu()

    def get(self, batch: int, border: int) -> Tensor | None:
        """The hidden states of a border, if they are kept."""
        return self._kept.get((batch, border))

    def nearest(self, batch: int, border: int) -> tuple[int, Tensor | None]:
        """The highest kept border up to ``border``; (0, None) where there is none."""
        while border and (batch, border) not in self._kept:
            border -= 1
        return border, self._kept.get((batch, border))

    def forget_after(self, border: int) -> None:
        """Drop what a change of layer ``border`` made untrue."""
        self._kept = {key: value for key, value in self._kept.items() if key[1] <= border}
