"""Perplexity: exp of the mean negative log-likelihood of each token given those before it. Bits per byte beside it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from come.events import OnProgress
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import run_through, sequence_losses
from come.models import Bundle
from come.numbers import LARGEST_PERPLEXITY


@dataclass(frozen=True)
class Perplexity:
    """How well a text was predicted.

    Attributes:
        value, stderr: the perplexity, and its standard error over sequences. One above ``LARGEST_PERPLEXITY``, which
            tells no more than that the model is lost, is given as that, without an error.
        tokens: how many tokens were predicted: all but the first of each sequence.
        bits_per_byte, bits_per_byte_stderr: the same surprise over the bytes of the text, which compares between
            tokenizers: nats of all predicted tokens / ln 2 / ``bytes``. Its error is over sequences too.
        bytes: of the predicted tokens' text (``predicted_bytes``).
        losses: the mean loss of each sequence, in order, so that two models can be compared sequence by sequence.
    """

    value: float
    stderr: float
    tokens: int
    bits_per_byte: float = math.nan
    bits_per_byte_stderr: float = math.nan
    bytes: int = 0
    losses: tuple[float, ...] = ()

    def metrics(self) -> dict[str, float]:
        """What results hold of it, by name; an error that a single sequence does not have is left out."""
        named = {
            "perplexity": self.value,
            "perplexity_stderr": self.stderr,
            "bits_per_byte": self.bits_per_byte,
            "bits_per_byte_stderr": self.bits_per_byte_stderr,
        }
        return {name: value for name, value in named.items() if math.isfinite(value)}


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
    """Perplexity and bits per byte with their standard errors over sequences.

    Args:
        bundle: the model.
        tokens: int64 (sequences, tokens), at least two a sequence.
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer of each batch.
        message: what to say there.

    Raises:
        ComeError: the model's values are not finite.
    """
    runner = LayerRunner(bundle)
    todo = list(batches(tokens, batch_size))
    losses: list[Tensor] = []
    for batch in todo:
        normed = run_through(runner, batch, len(todo), on_progress, message)
        losses.append(sequence_losses(runner, normed, batch.tokens))
        check_finite(losses[-1], runner)
    return from_losses(torch.cat(losses), tokens, bundle.tokenizer)


def from_losses(losses: Tensor, tokens: Tensor, tokenizer: Any) -> Perplexity:
    """The metrics of sequences whose mean losses, (sequences,), are known.

    The standard error of the mean loss is carried to the perplexity; that of bits per byte is a ratio's, since
    sequences of as many tokens differ in their bytes.
    """
    count, predicted = len(losses), tokens.shape[1] - 1
    losses = losses.double()
    nats = losses * predicted
    lengths = torch.tensor(predicted_bytes(tokenizer, tokens), dtype=torch.float64)
    loss, length = float(losses.mean()), float(lengths.mean())
    nats_per_byte = float(nats.mean()) / length if length else math.nan
    value = perplexity_of(loss)
    return Perplexity(
        value=value,
        stderr=value * mean_stderr(losses) if value < LARGEST_PERPLEXITY else math.nan,
        tokens=count * predicted,
        bits_per_byte=nats_per_byte / math.log(2),
        bits_per_byte_stderr=mean_stderr(nats - nats_per_byte * lengths) / length / math.log(2) if length else math.nan,
        bytes=int(lengths.sum()),
        losses=tuple(losses.tolist()),
    )


def perplexity_of(loss: float) -> float:
    """The perplexity of a mean loss, ``LARGEST_PERPLEXITY`` at most; nan for nan."""
    return LARGEST_PERPLEXITY if loss >= math.log(LARGEST_PERPLEXITY) else math.exp(loss)


def predicted_bytes(tokenizer: Any, tokens: Tensor) -> list[int]:
    """How many bytes the predicted tokens of each sequence stand for.

    Counted as the UTF-8 bytes of the sequence's decoded text less those of its first token's, which is not predicted;
    special tokens are no text. Where a sequence begins or ends within a character, which byte-level tokenizers allow,
    the count is off by a byte or two.
    """

    def size(ids: list[int]) -> int:
        text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return len(text.encode("utf-8", "surrogatepass"))

    return [size(ids) - size(ids[:1]) for ids in tokens.tolist()]


def mean_stderr(values: Tensor) -> float:
    """The standard error of a mean; nan for a single value."""
    return float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
