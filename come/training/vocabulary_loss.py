"""Losses of next-token distributions, in chunks of tokens: forward and backward of a chunk at once, so that the logits
of one chunk are all that is ever held, however many tokens there are, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from come.measurement.layer_runner import LayerRunner

CHUNK = {"cpu": 128, "cuda": 1024}  # tokens whose logits are held at once; on a CPU, as many as its cache holds
TINY = 1e-9
NO_TARGET = -100  # the last token of a sequence has nothing to predict


@dataclass(frozen=True)
class VocabularyLoss:
    """What the student's next-token distributions should be like.

    Attributes:
        teacher: the weight of KL(teacher || student), a mean over all tokens.
        text: the weight of the next-token loss on the text itself.
        temperature: of both distributions in the KL, which is scaled by its square.
        top_k: take the KL over the teacher's k likeliest tokens and all others as one; None for all.
        reverse: take KL(student || teacher) in its place, over all tokens of the vocabulary.
    """

    teacher: float = 1.0
    text: float = 0.0
    temperature: float = 1.0
    top_k: int | None = None
    reverse: bool = False

    def sums(self, logits: Tensor, taught: Tensor | None, targets: Tensor, tokens: int, predicted: int) -> Tensor:
        """A chunk's part of the loss.

        Args:
            logits: the student's, float32 (chunk, vocabulary).
            taught: the teacher's; None where it has no weight.
            targets: the tokens that follow, (chunk,); ``NO_TARGET`` where none does.
            tokens, predicted: how many tokens the whole batch has, and how many of them predict one.
        """
        loss = logits.new_zeros(())
        if self.teacher:
            assert taught is not None
            scaled = (
                (logits, taught) if self.temperature == 1 else (logits / self.temperature, taught / self.temperature)
            )
            loss = loss + self._divergence(*scaled) * (self.teacher * self.temperature**2 / tokens)
        if self.text:
            text = functional.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="sum")
            loss = loss + text * (self.text / predicted)
        return loss

    def _divergence(self, logits: Tensor, taught: Tensor) -> Tensor:
        if self.reverse:
            return reverse_divergence(logits, taught)
        return divergence(logits, taught) if self.top_k is None else top_divergence(logits, taught, self.top_k)


def divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """The sum over tokens of KL(softmax(taught) || softmax(logits)); (tokens, vocabulary) each."""
    return _Divergence.apply(logits, taught)  # type: ignore[no-any-return, no-untyped-call]


class _Divergence(torch.autograd.Function):
    """The same as by autograd, in half the passes over memory: its gradient is softmax(logits) - softmax(taught)."""

    @staticmethod
    def forward(context: Any, logits: Tensor, taught: Tensor) -> Tensor:
        log_made, log_taught = functional.log_softmax(logits, dim=-1), functional.log_softmax(taught, dim=-1)
        wanted = log_taught.exp()
        context.save_for_backward(log_made, wanted)
        return wanted.flatten().dot(log_taught.sub_(log_made).flatten())

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        log_made, wanted = context.saved_tensors
        return log_made.exp().sub_(wanted).mul_(gradient), None


def reverse_divergence(logits: Tensor, taught: Tensor) -> Tensor:
    """The sum over tokens of KL(softmax(logits) || softmax(taught)); (tokens, vocabulary) each."""
    return _ReverseDivergence.apply(logits, taught)  # type: ignore[no-any-return, no-untyped-call]


class _ReverseDivergence(torch.autograd.Function):
    """The same as by autograd, in fewer passes: its gradient is p (log p - log q - KL), p the softmax of logits."""

    @staticmethod
    def forward(context: Any, logits: Tensor, taught: Tensor) -> Tensor:
        log_made, log_taught = functional.log_softmax(logits, dim=-1), functional.log_softmax(taught, dim=-1)
        made, apart = log_made.exp(), log_made.sub_(log_taught)
        each = (made * apart).sum(-1, keepdim=True)
        context.save_for_backward(made, apart.sub_(each))
        return each.sum()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        made, apart = context.saved_tensors
        return apart.mul(made).mul_(gradient), None


def top_divergence(logits: Tensor, taught: Tensor, k: int) -> Tensor:
    """The same over the teacher's k likeliest tokens, with all the others lumped into one."""
    log_taught, tokens = functional.log_softmax(taught, dim=-1).topk(min(k, taught.shape[-1]), dim=-1)
    log_made = functional.log_softmax(logits, dim=-1).gather(-1, tokens)
    top = log_taught.exp() * (log_taught - log_made)
    rest, rest_made = ((1 - each.exp().sum(-1)).clamp_min(TINY) for each in (log_taught, log_made))
    return top.sum() + (rest * (rest.log() - rest_made.log())).sum()


def head_gradients(
    runner: LayerRunner,
    normed: Tensor,
    taught: Callable[[slice], Tensor] | None,
    tokens: Tensor,
    loss: VocabularyLoss,
    share: float = 1.0,
) -> tuple[float, Tensor]:
    """The loss of a batch and its gradient with respect to the normed states; the head's own is added to its ``grad``.

    Args:
        runner: the student.
        normed: its states after the final norm, (sequences, tokens, hidden_size).
        taught: gives the teacher's logits for a chunk of the tokens, flattened.
        tokens: int64 (sequences, tokens).
        loss: what to take.
        share: what everything is multiplied with: a micro-batch's share of its batch.
    """
    states = normed.detach().flatten(0, 1)
    gradient = torch.empty_like(states)
    whole = 0.0
    for rows, targets in chunks(tokens.to(states.device)):
        part = states[rows].requires_grad_()
        with torch.enable_grad():
            value = share * _part(runner, part, taught, rows, targets, tokens, loss)
            value.backward()
        assert part.grad is not None
        gradient[rows] = part.grad
        whole += float(value.detach())
    return whole, gradient.view_as(normed)


@torch.no_grad()
def head_loss(
    runner: LayerRunner,
    normed: Tensor,
    taught: Callable[[slice], Tensor] | None,
    tokens: Tensor,
    loss: VocabularyLoss,
) -> float:
    """The loss of a batch alone (see ``head_gradients``)."""
    states = normed.flatten(0, 1)
    return sum(
        float(_part(runner, states[rows], taught, rows, targets, tokens, loss))
        for rows, targets in chunks(tokens.to(states.device))
    )


def chunks(tokens: Tensor) -> list[tuple[slice, Tensor]]:
    """Chunks of the tokens of a batch, flattened, each with the tokens that follow them."""
    targets = torch.full_like(tokens, NO_TARGET)
    targets[:, :-1] = tokens[:, 1:]
    flat = targets.flatten()
    size = CHUNK.get(tokens.device.type, 512)
    slices = [slice(start, min(start + size, len(flat))) for start in range(0, len(flat), size)]
    return [(rows, flat[rows]) for rows in slices]


def _part(
    runner: LayerRunner,
    states: Tensor,
    taught: Callable[[slice], Tensor] | None,
    rows: slice,
    targets: Tensor,
    tokens: Tensor,
    loss: VocabularyLoss,
) -> Tensor:
    wanted = None
    if loss.teacher:
        assert taught is not None
        with torch.no_grad():
            wanted = taught(rows).to(states.device)
    return loss.sums(runner.logits(states), wanted, targets, tokens.numel(), len(tokens) * (tokens.shape[1] - 1))
