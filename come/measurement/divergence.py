"""What the original predicts on some tokens, kept, and how far another model's predictions are from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from come.events import OnProgress
from come.measurement.calibrate import Batch, batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import HEAD_TOKENS, run_through
from come.models import Bundle

HEAD_POSITIONS = HEAD_TOKENS // 4  # both models' logits and what is made of them lie beside each other
CACHED_TOKENS = 4  # this many tokens' logits fit into a processor's cache: three times as fast as all at once


@dataclass(frozen=True)
class Reference:
    """An original model with what left its final norm on some tokens: run once, compared with many pruned models.

    Attributes:
        bundle: the model.
        runner: it, for its head.
        tokens: int64 (sequences, tokens).
        states: kept on the CPU, in the model's dtype, one of (sequences, tokens, hidden_size) a batch.
        device: where its head is.
        batch_size: sequences in a batch, or None for the default; pruned models are run as the original was.
    """

    bundle: Bundle
    runner: LayerRunner
    tokens: Tensor
    states: list[Tensor]
    device: torch.device
    batch_size: int | None = None

    def batches(self) -> list[tuple[Batch, Tensor]]:
        """The tokens in batches, each with its states."""
        return list(zip(batches(self.tokens, self.batch_size), self.states, strict=True))

    def log_chances(self, batch: int) -> Iterator[Tensor]:
        """The next-token log-probabilities in a batch, ``HEAD_POSITIONS`` predicted tokens at a time.

        Each piece is (tokens, vocabulary), float32.
        """
        states = self.states[batch][:, :-1].flatten(0, 1)
        for start in range(0, len(states), HEAD_POSITIONS):
            piece = states[start : start + HEAD_POSITIONS].to(self.device)
            yield self.runner.logits(piece).log_softmax(-1)


@torch.inference_mode()
def reference(
    original: Bundle,
    tokens: Tensor,
    *,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
    message: str = "Predictions of the original model",
) -> Reference:
    """Run an original model over tokens, int64 (sequences, tokens), and keep its last hidden states."""
    runner = LayerRunner(original)
    todo = list(batches(tokens, batch_size))
    states: list[Tensor] = []
    for batch in todo:
        normed = run_through(runner, batch, len(todo), on_progress, message)
        states.append(normed.cpu())
    return Reference(original, runner, tokens, states, normed.device, batch_size)


def compare(runner: LayerRunner, normed: Tensor, tokens: Tensor, original: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean loss and mean KL divergence of each sequence, (sequences,) each, in nats a predicted token, on the CPU.

    Args:
        runner: the pruned model.
        normed: its hidden states after the final norm, (sequences, tokens, hidden_size).
        tokens: int64 (sequences, tokens).
        original: the original's log-probabilities, in the pieces of ``Reference.log_chances``.
    """
    ours, targets = normed[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()
    losses: list[Tensor] = []
    divergences: list[Tensor] = []
    start = 0
    for theirs in original:
        piece = slice(start, start + len(theirs))
        loss, divergence = _compare(runner.logits(ours[piece]), theirs, targets[piece])
        losses.append(loss)
        divergences.append(divergence)
        start = piece.stop
    shape = (len(tokens), -1)
    return torch.cat(losses).view(shape).mean(1), torch.cat(divergences).view(shape).mean(1)


def _compare(logits: Tensor, original: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Loss and divergence of each token, (tokens,) on the CPU."""
    original, targets = original.to(logits.device), targets[:, None].to(logits.device)
    # Blocks of nearly one size: the sum of a lone token would be split among threads, and so come to other bits.
    blocks = max(1, len(logits) // CACHED_TOKENS) if logits.device.type == "cpu" else 1
    losses, divergences = [], []
    for ours, theirs, wanted in zip(*(each.tensor_split(blocks) for each in (logits, original, targets)), strict=True):
        log_chances = ours.log_softmax(-1)
        losses.append(-log_chances.gather(-1, wanted)[:, 0])
        # torch.nn.functional.kl_div makes exp(original) * (original - ours) as well, in more arrays of this size.
        torch.sub(theirs, log_chances, out=log_chances)
        divergences.append(log_chances.mul_(theirs.exp()).sum(-1))
    return torch.cat(losses).cpu(), torch.cat(divergences).cpu()
