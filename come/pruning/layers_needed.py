"""How few layers each sequence would have needed: an oracle that chooses layers anew for every text.

After Glavas et al. 2024, "Dynamic layer selection in decoder-only transformers" (arXiv 2410.20022): what a model could
save if somebody told it before each sequence which layers to skip. A sequence needs a set of layers no longer where
fewer predict it as well as all do, by its own loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from come.errors import ComeError
from come.events import OnProgress, emit
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import suffix_losses
from come.models import Bundle
from come.pruning.methods.skip import evenly_spaced


@dataclass(frozen=True)
class LayersNeeded:
    """What one sequence would have needed.

    Attributes:
        loss: with all layers, nats a predicted token.
        kept, kept_loss: the layers that the greedy search leaves, and the loss with them alone.
        uniform, uniform_loss: how few layers at equal distances do, and the loss with them.
        complete: the search ended by itself, not by what it may cost.
    """

    loss: float
    kept: tuple[int, ...]
    kept_loss: float
    uniform: int
    uniform_loss: float
    complete: bool

    @property
    def layers(self) -> int:
        """The fewest that were found to do."""
        return min(len(self.kept), self.uniform)


@torch.inference_mode()
def layers_needed(
    bundle: Bundle, tokens: Tensor, tolerance: float = 0.0, passes: float = 100.0, on_progress: OnProgress = None
) -> list[LayersNeeded]:
    """How few layers predict each sequence as well as all, by two searches, one layer kept at least.

    Greedy: the layer goes whose absence leaves the lowest loss, the first on ties, again and again while that loss is
    within bounds. Uniform: every count of layers at equal distances is tried, as the paper allots layers.

    Args:
        bundle: the model; it stays as it is.
        tokens: int64 (sequences, tokens), at least two a sequence.
        tolerance: by how many nats a token the loss may be above that with all layers.
        passes: what the greedy search may cost a sequence, in passes through all layers; no round of it is begun that
            would cost more. To the end it takes about layers² / 6.
        on_progress: told of each sequence.

    Raises:
        ComeError: the model's values are not finite, or the tolerance is below 0.
    """
    if tolerance < 0:
        raise ComeError(f"A tolerance of {tolerance:g} is below 0, what all layers together give.", "Give 0 or more.")
    runner, found = LayerRunner(bundle), list[LayersNeeded]()
    for number, sequence in enumerate(tokens.split(1)):
        emit(on_progress, "oracle", number, len(tokens), f"How few layers sequence {number} needs")
        found.append(_of_one(runner, sequence, tolerance, passes * len(runner)))
    emit(on_progress, "oracle", len(tokens), len(tokens), "All sequences are searched")
    return found


def _of_one(runner: LayerRunner, tokens: Tensor, tolerance: float, budget: float) -> LayersNeeded:
    kept, entering = list(range(len(runner))), [runner.enter(tokens)]
    whole = _loss(runner, entering[0], tokens, kept)
    check_finite(torch.tensor(whole), runner)
    loss, complete = whole, True
    while len(kept) > 1:
        budget -= len(kept) * (len(kept) - 1) / 2 + len(kept)
        if budget < 0:
            complete = False
            break
        for layer in kept[len(entering) - 1 : -1]:  # below the last gap it is known
            entering.append(runner.run(layer, entering[-1]))
        without = [_loss(runner, entering[at], tokens, kept[at + 1 :]) for at in range(len(kept))]
        best = min(range(len(kept)), key=without.__getitem__)
        if not without[best] <= whole + tolerance:
            break
        loss = without[best]
        del kept[best], entering[best + 1 :]
    spaced = (evenly_spaced(len(runner), count) for count in range(1, len(runner) + 1))
    counts = ((len(layers), _loss(runner, entering[0], tokens, layers)) for layers in spaced)
    uniform, uniform_loss = next((count, each) for count, each in counts if each <= whole + tolerance)
    return LayersNeeded(whole, tuple(kept), loss, uniform, uniform_loss, complete)


def _loss(runner: LayerRunner, entering: Tensor, tokens: Tensor, layers: Sequence[int]) -> float:
    """The loss of a sequence with some layers run on what enters them; infinite where it overflows."""
    loss = float(suffix_losses(runner, entering, tokens, layers)[0])
    return loss if math.isfinite(loss) else math.inf
