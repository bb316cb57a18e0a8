"""Perplexity: exp of the mean negative log-likelihood of each token given those before it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measure.loss import sequence_losses
from come.measure.runner import LayerRunner
from come.measure.walk import batches
from come.models import Bundle


@dataclass(frozen=True)
class Perplexity:
    """A perplexity with its standard error over sequences, and the tokens it was predicted on."""

    value: float
    stderr: float
    tokens: int


def perplexity(
    bundle: Bundle, tokens: Tensor, *, batch_size: int | None = None, on_progress: OnProgress = None
) -> float:
    """The perplexity of a model on tokens, int64 (sequences, tokens); float32 loss over all but first tokens."""
    return measure_perplexity(bundle, tokens, batch_size=batch_size, on_progress=on_progress).value


@torch.inference_mode()
def measure_perplexity(
    bundle: Bundle,
    tokens: Tensor,
    *,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
    message: str = "Perplexity",
) -> Perplexity:
    """Perplexity with its standard error (of the mean loss over sequences, carried to the perplexity).

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens), at least two a sequence.
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each batch.
        message: what to say there.
    """
    runner = LayerRunner(bundle)
    losses: list[Tensor] = []
    todo = list(batches(tokens, batch_size))
    for batch in todo:
        hidden_states = runner.enter(batch.tokens)
        for layer in range(len(runner)):
            hidden_states = runner.run(layer, hidden_states)
            emit(
                on_progress,
                "evaluate",
                batch.index * len(runner) + layer + 1,
                len(todo) * len(runner),
                message,
            )
        losses.append(sequence_losses(runner, runner.norm(hidden_states), batch.tokens))
    per_sequence = torch.cat(losses).double()
    loss = float(per_sequence.mean())
    count = len(per_sequence)
    error = float(per_sequence.std()) / math.sqrt(count) if count > 1 else math.nan
    return Perplexity(math.exp(loss), math.exp(loss) * error, count * (tokens.shape[1] - 1))
