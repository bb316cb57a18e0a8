"""Hidden states at layer borders, kept between passes so that only the layers after a change are run again."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from come.errors import ComeError
from come.models import Bundle


class HiddenStateCache:
    """The hidden states H^(l) that enter layer l, for every batch, at every ``stride``-th border above the first.

    H^(0) is never kept: the embedding gives it for nothing. What is not kept is run again from the nearest border
    below, which gives the same bits, so a smaller budget costs time and changes nothing else.
    """

    def __init__(self, layers: int, hidden_size: int, n_tokens: int, itemsize: int, budget: int | None = None) -> None:
        """Choose the stride by a budget in bytes; a quarter of the free memory by default, 0 to keep none.

        Raises:
            ComeError: somebody asked for borders to be kept, with a budget that does not hold a single one.
        """
        one = hidden_size * n_tokens * itemsize
        if budget is None:
            self.stride = stride_in(psutil.virtual_memory().available // 4, layers, one)
        else:
            check_budget(budget, one)
            self.stride = stride_in(budget, layers, one)
        self._kept: dict[tuple[int, int], _Kept] = {}

    @classmethod
    def of(cls, bundle: Bundle, tokens: Tensor, budget: int | None = None) -> HiddenStateCache:
        """A cache for a model's hidden states on tokens, (sequences, tokens), within a budget in bytes."""
        layers, size = len(bundle.layers), bundle.shape.hidden_size
        return cls(layers, size, tokens.numel(), bundle.dtype.itemsize, budget)

    def put(self, batch: int, border: int, hidden_states: Tensor) -> None:
        """Keep the hidden states of a border, if it is one of those to keep."""
        if border and border % self.stride == 0:
            self._kept[batch, border] = _Kept.of(hidden_states)

    def get(self, batch: int, border: int) -> Tensor | None:
        """The hidden states of a border, if they are kept."""
        kept = self._kept.get((batch, border))
        return kept.states() if kept is not None else None

    def nearest(self, batch: int, border: int) -> tuple[int, Tensor | None]:
        """The highest kept border up to ``border``; (0, None) where there is none."""
        while border and (batch, border) not in self._kept:
            border -= 1
        return border, self.get(batch, border)

    def forget_after(self, border: int) -> None:
        """Drop the hidden states above ``border``, which a change of the layer there made untrue."""
        self._kept = {key: value for key, value in self._kept.items() if key[1] <= border}


def stride_in(room: int, layers: int, one: int) -> int:
    """The stride at which borders fit into ``room`` bytes, if one takes ``one``; more than ``layers`` if none fits."""
    affordable = room // max(1, one)
    return 1 if affordable >= layers else layers // affordable + 1 if affordable else layers + 1


def check_budget(budget: int, one: int) -> None:
    """Refuse a budget, in bytes, that is meant to keep borders and does not hold a single one.

    Raises:
        ComeError: says how much one takes.
    """
    if 0 < budget < one:
        raise ComeError(
            f"A memory budget of {budget:,} bytes does not hold the hidden states of one layer border ({one:,}).",
            "Give more, or 0 to keep none and run layers again instead.",
        )


@dataclass(frozen=True)
class _Kept:
    """Hidden states in main memory. From a GPU they are copied while the next layers run; ``states`` waits for that."""

    _copied: Tensor
    _ready: torch.cuda.Event | None = None

    @classmethod
    def of(cls, hidden_states: Tensor) -> _Kept:
        if hidden_states.device.type != "cuda":
            return cls(hidden_states.cpu())
        copied = torch.empty(hidden_states.shape, dtype=hidden_states.dtype, pin_memory=True)
        copied.copy_(hidden_states, non_blocking=True)
        with torch.cuda.device(hidden_states.device):
            ready = torch.cuda.Event()
            ready.record()
        return cls(copied, ready)

    def states(self) -> Tensor:
        if self._ready is not None:
            self._ready.synchronize()
        return self._copied
