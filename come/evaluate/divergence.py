"""How far a pruned model's predictions are from the original's: KL(original || pruned) of the next-token chances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from come.errors import ComeError
from come.evaluate.perplexity import Perplexity, from_losses, mean_stderr, run_through
from come.events import OnProgress
from come.measure.loss import HEAD_TOKENS, sequence_losses
from come.measure.runner import LayerRunner
from come.measure.walk import Batch, batches
from come.models import Bundle

HEAD_POSITIONS = HEAD_TOKENS // 4  # both models' logits and what is made of them lie beside each other


@dataclass(frozen=True)
class Divergence:
    """The mean KL divergence in nats per predicted token, its standard error over sequences, and those tokens."""

    value: float
    stderr: float
    tokens: int

    def figures(self) -> dict[str, float]:
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
    for batch, theirs in todo:
        ours = run_through(runner, batch, len(todo), on_progress, message)[:, :-1].flatten(0, 1)
        theirs = theirs[:, :-1].flatten(0, 1).to(known.device)
        targets = batch.tokens[:, 1:].flatten()
        pieces: list[tuple[Tensor, Tensor]] = []
        for start in range(0, len(ours), HEAD_POSITIONS):
            piece = slice(start, start + HEAD_POSITIONS)
            pruned = runner.logits(ours[piece]).log_softmax(-1)
            original = known.runner.logits(theirs[piece]).log_softmax(-1).to(pruned.device)
            loss = -pruned.gather(-1, targets[piece, None].to(pruned.device))[:, 0]
            divergence = torch.nn.functional.kl_div(pruned, original, reduction="none", log_target=True).sum(-1)
            pieces.append((loss.cpu(), divergence.cpu()))
        shape = (len(batch.tokens), -1)
        losses.append(torch.cat([loss for loss, _ in pieces]).view(shape).mean(1))
        divergences.append(torch.cat([divergence for _, divergence in pieces]).view(shape).mean(1))
    perplexity = from_losses(torch.cat(losses), known.tokens, bundle.tokenizer)
    by_sequence = torch.cat(divergences).double()
    return perplexity, Divergence(float(by_sequence.mean()), mean_stderr(by_sequence), perplexity.tokens)


def _require_one_vocabulary(bundle: Bundle, original: Bundle) -> None:
    same = bundle.model.config.vocab_size == original.model.config.vocab_size
    if not same or bundle.tokenizer.get_vocab() != original.tokenizer.get_vocab():
        raise ComeError(
            "The two models have different vocabularies, so their predictions cannot be compared.",
            "Give the model that the pruned one was made from.",
        )
