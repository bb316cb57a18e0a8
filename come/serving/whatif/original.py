"""The original model on held-out tokens: hidden states at layer borders and predictions, computed in one pass.

What every what-if question about it starts from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil
import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.divergence import Reference
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import each_border
from come.models import Bundle


@dataclass(frozen=True)
class Original:
    """An original model on some tokens.

    Attributes:
        known: the model, the tokens and what left its final norm.
        borders: what enters its layers, as far as the memory goes.
        log_chances: for each batch, what ``known.log_chances`` gives; None where they are too large to keep.
    """

    known: Reference
    borders: HiddenStateCache
    log_chances: list[list[Tensor]] | None

    def log_chances_of(self, batch: int) -> Iterable[Tensor]:
        """Those of one batch, piece by piece; made from the kept states where they are not kept."""
        return self.known.log_chances(batch) if self.log_chances is None else self.log_chances[batch]


@torch.inference_mode()
def observe(
    bundle: Bundle,
    tokens: Tensor,
    *,
    border_bytes: int,
    chance_bytes: int,
    on_progress: OnProgress = None,
) -> Original:
    """Run a model over tokens, int64 (sequences, tokens), and keep what the questions about it start from.

    Args:
        bundle: the model.
        tokens: the held-out tokens.
        border_bytes: for hidden states at layer borders; no more than a quarter of the free memory is taken.
        chance_bytes: for its predictions.
        on_progress: told of each layer.
    """
    runner, hidden_size = LayerRunner(bundle), bundle.shape.hidden_size
    one_border = tokens.numel() * hidden_size * bundle.dtype.itemsize
    room = min(border_bytes, psutil.virtual_memory().available // 4)
    borders = HiddenStateCache(
        len(runner), hidden_size, tokens.numel(), bundle.dtype.itemsize, room if room >= one_border else 0
    )
    states: list[Tensor] = []
    todo = list(batches(tokens))
    device = torch.device("cpu")
    for batch in todo:
        last = torch.empty(0)
        for border, hidden_states in each_border(runner, batch, borders):
            last = hidden_states
            done = batch.index * len(runner) + border
            emit(on_progress, "original", done, len(todo) * len(runner), "The original model on the text")
        normed = runner.norm(last)
        states.append(normed.cpu())
        device = normed.device
    known = Reference(bundle, runner, tokens, states, device)
    vocabulary = int(bundle.model.config.vocab_size)
    log_chances: list[list[Tensor]] | None = None
    if tokens.numel() * vocabulary * 4 <= chance_bytes:
        log_chances = [list(known.log_chances(batch.index)) for batch in todo]
    return Original(known, borders, log_chances)
