"""What a change of a model costs, on tokens that are scored on: divergence from the original, or loss."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import psutil
import torch
from torch import Tensor, nn

from come.measurement.calibrate import batches
from come.measurement.divergence import compare, reference
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.influence import block_influence
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import sequence_losses, states_at
from come.models import Bundle

Measure = Literal["kl", "loss"]
"""KL(original || changed), or the mean negative log-likelihood; nats a predicted token."""


class Scorer:
    """Scores changes of models that were made of one original, all on the same tokens.

    What the original predicts is run once, and kept where an eighth of the free memory holds it, unless ``keep`` is
    false. Hidden states that
    enter the layers of the model that is changed are kept, too; ``after_change`` says where they became untrue.

    Attributes:
        tokens: int64 (sequences, tokens), on which changes are scored.
        by: "kl" or "loss".
        layers_run: how many layers were run over all tokens so far, and ``heads``: how often the head.
    """

    def __init__(
        self,
        original: Bundle,
        tokens: Tensor,
        by: Measure = "kl",
        batch_size: int | None = None,
        memory_budget: int | None = None,
        keep: bool = True,
    ) -> None:
        self.tokens, self.by, self.batch_size = tokens, by, batch_size
        self.layers_run = self.heads = 0
        self._borders = HiddenStateCache.of(original, tokens, memory_budget)
        self._reference = reference(original, tokens, batch_size=batch_size) if by == "kl" else None
        vocabulary = int(original.model.get_input_embeddings().weight.shape[0])
        fits = 4 * vocabulary * tokens.numel() < psutil.virtual_memory().available / 8
        self._kept: dict[int, list[Tensor]] | None = {} if fits and keep else None

    def after_change(self, first: int) -> None:
        """Forget what is known of a model above its layer ``first``, which was changed."""
        self._borders.forget_after(first)

    def __call__(self, model: LayerRunner) -> float:
        """The score of a model as it is."""
        return self.changed(model, 0, range(len(model)))

    def changed(
        self,
        model: LayerRunner,
        start: int,
        layers: Sequence[int],
        instead: Mapping[int, nn.Module] | None = None,
    ) -> float:
        """The score of a model with other layers from one on; infinite where it overflows.

        Args:
            model: as it is; what enters its layers is kept from one call to the next.
            start: the first layer that is different.
            layers: the layers that come from there on, by their numbers in the model as it is.
            instead: modules in the place of some of these.
        """
        mean = float(self.by_sequence(model, start, layers, instead).mean())
        return mean if math.isfinite(mean) else math.inf

    @torch.inference_mode()
    def by_sequence(
        self,
        model: LayerRunner,
        start: int,
        layers: Sequence[int],
        instead: Mapping[int, nn.Module] | None = None,
    ) -> Tensor:
        """The same of each sequence, (sequences,), float32; not finite where it overflows."""
        scores = []
        for batch in batches(self.tokens, self.batch_size):
            states = self._entering(model, batch.index, batch.tokens, start)
            for layer in layers:
                states = model.run(layer, states, instead.get(layer) if instead is not None else None)
            normed = model.norm(states)
            if self._reference is None:
                scores.append(sequence_losses(model, normed, batch.tokens))
            else:
                scores.append(compare(model, normed, batch.tokens, self._predicted(batch.index))[1])
        self.layers_run += len(layers)
        self.heads += 1
        return torch.cat(scores)

    def block_influence(self, model: LayerRunner) -> Tensor:
        """The block influence of each layer on the tokens, (layers,), hidden states as they are; what is run is kept.

        Raises:
            ComeError: the model overflows.
        """
        return block_influence(model, self.tokens, self._borders, last_state="raw", batch_size=self.batch_size)

    def _entering(self, model: LayerRunner, batch: int, tokens: Tensor, start: int) -> Tensor:
        states = states_at(model, batch, tokens, start, self._borders)
        if self._borders.nearest(batch, start)[0] != start:
            self._borders.put(batch, start, states)
        return states

    def _predicted(self, batch: int) -> list[Tensor]:
        assert self._reference is not None
        if self._kept is None:
            return list(self._reference.log_chances(batch))
        if batch not in self._kept:
            self._kept[batch] = list(self._reference.log_chances(batch))
        return self._kept[batch]
