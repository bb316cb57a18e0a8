"""How far a pruned model's predictions are from the original's: KL(original || pruned) of the next-token chances."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from come.errors import ComeError
from come.evaluate.perplexity import Perplexity, from_losses, mean_stderr, run_through
from come.events import OnProgress
from come.measurement.calibrate import Batch, batches
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import HEAD_TOKENS, sequence_losses
from come.models import Bundle

HEAD_POSITIONS = HEAD_TOKENS // 4  # both models' logits and what is made of them lie beside each other
CACHED_TOKENS = 4  # this many tokens' logits fit into a processor's cache: three times as fast as all at once


@dataclass(frozen=True)
class Divergence:
    """The mean KL divergence in nats per predicted token, its standard error over sequences, and those tokens."""

    value: float
    stderr: float
    tokens: int

    def metrics(self) -> dict[str, float]:
        """What results hold of it, by name; a single sequence has no standard error."""
        return {"kl": self.value} | ({"kl_stderr": self.stderr} if math.isfinite(self.stderr) else {})


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


def kl_divergence(
    bundle: Bundle,
    original: Bundle,
    tokens: Tensor,
    *,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> float:
    """KL(original || pruned) over the tokens, int64 (sequences, tokens): mean nats per predicted token, float32.

    Raises:
        ComeError: the two models have different vocabularies.
    """
    _require_one_vocabulary(bundle, original)
    known = reference(original, tokens, batch_size=batch_size, on_progress=on_progress)
    return measure_divergence(bundle, known, on_progress=on_progress)[1].value


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


@torch.inference_mode()
def perplexity_of_reference(known: Reference) -> Perplexity:
    """The original's own, as ``measure_perplexity`` gives it; only its head is run."""
    losses = [sequence_losses(known.runner, states.to(known.device), batch.tokens) for batch, states in known.batches()]
    return from_losses(torch.cat(losses), known.tokens, known.bundle.tokenizer)


@torch.inference_mode()
def measure_divergence(
    bundle: Bundle,
    known: Reference,
    *,
    on_progress: OnProgress = None,
    message: str = "Predictions of the pruned model",
) -> tuple[Perplexity, Divergence]:
    """Perplexity of a pruned model and its divergence from the original, in one walk of it.

    Logits are float32, of at most ``HEAD_POSITIONS`` tokens at a time.

    Raises:
        ComeError: the two models have different vocabularies.
    """
    _require_one_vocabulary(bundle, known.bundle)
    runner = LayerRunner(bundle)
    losses: list[Tensor] = []
    divergences: list[Tensor] = []
    todo = known.batches()
    for batch, _ in todo:
        normed = run_through(runner, batch, len(todo), on_progress, message)
        loss, divergence = compare(runner, normed, batch.tokens, known.log_chances(batch.index))
        losses.append(loss)
        divergences.append(divergence)
    perplexity = from_losses(torch.cat(losses), known.tokens, bundle.tokenizer)
    by_sequence = torch.cat(divergences).double()
    return perplexity, Divergence(float(by_sequence.mean()), mean_stderr(by_sequence), perplexity.tokens)


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


def _require_one_vocabulary(bundle: Bundle, original: Bundle) -> None:
    same = bundle.model.config.vocab_size == original.model.config.vocab_size
    if not same or bundle.tokenizer.get_vocab() != original.tokenizer.get_vocab():
        raise ComeError(
            "The two models have different vocabularies, so their predictions cannot be compared.",
            "Give the model that the pruned one was made from.",
        )
