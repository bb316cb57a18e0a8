"""How far a pruned model's predictions are from the original's: KL(original || pruned) of the next-token chances."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from come.errors import ComeError
from come.evaluate.perplexity import Perplexity, from_losses, mean_stderr
from come.events import OnProgress
from come.measurement.divergence import Reference, compare, reference
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import run_through, sequence_losses
from come.models import Bundle
from come.models.not_finite import why_not_finite


@dataclass(frozen=True)
class Divergence:
    """The mean KL in nats per predicted token, its error over sequences, those tokens, and each sequence's mean."""

    value: float
    stderr: float
    tokens: int
    each: tuple[float, ...] = ()

    def metrics(self) -> dict[str, float]:
        """What results hold of it, by name; a single sequence has no standard error."""
        return {"kl": self.value} | ({"kl_stderr": self.stderr} if math.isfinite(self.stderr) else {})


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
def perplexity_of_reference(known: Reference) -> Perplexity:
    """The original's own, as ``measure_perplexity`` gives it; only its head is run.

    Raises:
        ComeError: the original's values are not finite.
    """
    losses: list[Tensor] = []
    for batch, states in known.batches():
        losses.append(sequence_losses(known.runner, states.to(known.device), batch.tokens))
        if not bool(losses[-1].isfinite().all()):
            raise why_not_finite(known.bundle, batch.tokens)
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
        ComeError: the two models have different vocabularies, or values of one are not finite.
    """
    _require_one_vocabulary(bundle, known.bundle)
    runner = LayerRunner(bundle)
    losses: list[Tensor] = []
    divergences: list[Tensor] = []
    todo = known.batches()
    for batch, _ in todo:
        normed = run_through(runner, batch, len(todo), on_progress, message)
        loss, divergence = compare(runner, normed, batch.tokens, known.log_chances(batch.index))
        check_finite(loss, runner)
        if not bool(divergence.isfinite().all()):
            raise why_not_finite(known.bundle, batch.tokens)
        losses.append(loss)
        divergences.append(divergence)
    perplexity = from_losses(torch.cat(losses), known.tokens, bundle.tokenizer)
    by_sequence = torch.cat(divergences).double()
    divergence_of_all = Divergence(
        float(by_sequence.mean()), mean_stderr(by_sequence), perplexity.tokens, tuple(by_sequence.tolist())
    )
    return perplexity, divergence_of_all


def _require_one_vocabulary(bundle: Bundle, original: Bundle) -> None:
    same = bundle.model.config.vocab_size == original.model.config.vocab_size
    if not same or bundle.tokenizer.get_vocab() != original.tokenizer.get_vocab():
        raise ComeError(
            "The two models have different vocabularies, so their predictions cannot be compared.",
            "Give the model that the pruned one was made from.",
        )
