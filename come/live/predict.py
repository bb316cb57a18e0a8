"""What an edited model predicts, from its lowest changed layer on, beside the original's predictions.

Bit for bit what ``come.evaluate.measure_divergence`` finds by running the whole model: the same operations in the same
pieces, only with less memory in between.
"""

from __future__ import annotations

import torch
from torch import Tensor

from come.evaluate.divergence import HEAD_POSITIONS
from come.live.cancel import Cancel, never, stop_if
from come.live.original import Original
from come.measure.runner import LayerRunner
from come.measure.suffix import states_at
from come.models import Bundle

CACHED_TOKENS = 4  # this many tokens' logits fit into a processor's cache: three times as fast as all at once


@torch.inference_mode()
def predict(bundle: Bundle, original: Original, start: int, cancelled: Cancel = never) -> tuple[Tensor, Tensor]:
    """Mean loss and mean KL divergence of each sequence, (sequences,) each, in nats a predicted token.

    Args:
        bundle: the edited model.
        original: what it was made from, on the tokens.
        start: the first layer that differs from the original's.
        cancelled: asked between layers and pieces.

    Raises:
        Cancelled: it was wanted.
    """
    runner = LayerRunner(bundle)
    losses: list[Tensor] = []
    divergences: list[Tensor] = []
    for batch, _ in original.known.batches():
        hidden_states = states_at(runner, batch.index, batch.tokens, start, original.borders)
        for layer in range(start, len(runner)):
            stop_if(cancelled)
            hidden_states = runner.run(layer, hidden_states)
        ours = runner.norm(hidden_states)[:, :-1].flatten(0, 1)
        targets = batch.tokens[:, 1:].flatten()
        pieces = []
        for number, at in enumerate(range(0, len(ours), HEAD_POSITIONS)):
            stop_if(cancelled)
            piece = slice(at, at + HEAD_POSITIONS)
            pieces.append(_compare(runner, ours[piece], targets[piece], original.log_chances_of(batch.index, number)))
        shape = (len(batch.tokens), -1)
        losses.append(torch.cat([loss for loss, _ in pieces]).view(shape).mean(1))
        divergences.append(torch.cat([divergence for _, divergence in pieces]).view(shape).mean(1))
    return torch.cat(losses), torch.cat(divergences)


def _compare(runner: LayerRunner, states: Tensor, targets: Tensor, original: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and divergence of each token, (tokens,) on the CPU."""
    logits = runner.logits(states)
    targets, original = targets[:, None].to(logits.device), original.to(logits.device)
    losses, divergences = [], []
    rows = CACHED_TOKENS if logits.device.type == "cpu" else len(logits)
    for at in range(0, len(logits), rows):
        block = slice(at, at + rows)
        log_chances = logits[block].log_softmax(-1)
        losses.append(-log_chances.gather(-1, targets[block])[:, 0])
        # torch.nn.functional.kl_div makes exp(original) * (original - ours) as well, in more arrays of this size.
        torch.sub(original[block], log_chances, out=log_chances)
        divergences.append(log_chances.mul_(original[block].exp()).sum(-1))
    return torch.cat(losses).cpu(), torch.cat(divergences).cpu()
