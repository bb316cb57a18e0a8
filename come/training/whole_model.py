"""A model as something to train: from its tokens to its next-token distributions, or from the hidden states of a layer
on.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.training.precision import arithmetic
from come.training.states import States, StateStore
from come.training.trainer import TrainOptions, held_out_sequences, sequences_a_batch
from come.training.vocabulary_loss import VocabularyLoss, head_gradients, head_loss


class WholeModelOptions(TrainOptions):
    """How a whole model is trained (``TrainOptions``, with checks that cost less of the time)."""

    held_out_tokens: int = Field(
        2048, ge=1, description="How many tokens, an eighth of all at most, only decide which weights are the best."
    )
    check_every: int = Field(16, ge=1, description="After how many steps the held-out tokens are asked.")
    micro_tokens: int | None = Field(
        None, ge=1, description="How many tokens of a step go through the model at once; empty for all."
    )
    gradient_checkpointing: bool = Field(
        False,
        description="Keeps only what enters each layer and runs it again on the way back: less memory, a third more "
        "time.",
    )


class Teacher:
    """The teacher's logits, made chunk by chunk from its states after the final norm.

    The states of the sequences from ``first_kept`` on are made once and kept.
    """

    def __init__(
        self, bundle: Bundle, tokens: Tensor, options: WholeModelOptions, first_kept: int, store: StateStore
    ) -> None:
        self.runner, self.tokens, self.options = LayerRunner(bundle), tokens, options
        self.device = bundle.model.device
        self.first_kept, self.kept = first_kept, store.new()
        start = 0
        for batch in batches(tokens[first_kept:]):
            rows = slice(start, start + len(batch.tokens))
            self.kept.tensor[rows] = self._run(batch.tokens).to("cpu", self.kept.dtype)
            start = rows.stop

    def of(self, sequences: Tensor) -> Callable[[slice], Tensor]:
        """A function that gives the logits of a chunk of some sequences' tokens, (chunk, vocabulary)."""
        if int(sequences.min()) >= self.first_kept:
            normed = self.kept[sequences - self.first_kept].to(self.device)
        else:
            normed = self._run(self.tokens[sequences])
        states = normed.flatten(0, 1)

        def logits(rows: slice) -> Tensor:
            with arithmetic(self.device, self.options.precision):
                return self.runner.logits(states[rows])

        return logits

    @torch.no_grad()
    def _run(self, tokens: Tensor) -> Tensor:
        with arithmetic(self.device, self.options.precision):
            return normed_states(self.runner, tokens)


class WholeModel:
    """A model that is trained from its tokens to its next-token distributions (a ``train.Problem``).

    Where what enters a layer is given, only the layers from there on are run.
    """

    def __init__(
        self,
        student: Bundle,
        parameters: dict[str, nn.Parameter],
        teacher: Teacher | None,
        tokens: Tensor,
        loss: VocabularyLoss,
        options: WholeModelOptions,
        entering: tuple[int, States] | None = None,
    ) -> None:
        self.first = entering[0] if entering is not None else 0
        self.entering = entering[1] if entering is not None else None
        self.runner, self.parameters, self.teacher = LayerRunner(student), parameters, teacher
        self.tokens, self.loss, self.options = tokens, loss, options
        self.sequences, self.seq_len = len(tokens) - held_out_sequences(tokens, options), tokens.shape[1]
        self.device = student.model.device

    def gradients(self, sequences: Tensor) -> float:
        """Add the gradient of the loss of some sequences to the parameters'; returns the loss."""
        micro = max(1, (self.options.micro_tokens or sequences.numel() * self.seq_len) // self.seq_len)
        whole = 0.0
        for part in sequences.split(micro):
            tokens = self.tokens[part]
            taught = self.teacher.of(part) if self.teacher is not None else None
            with arithmetic(self.device, self.options.precision):
                normed = self._run(part, self.options.gradient_checkpointing)
                share = len(part) / len(sequences)
                loss, gradient = head_gradients(self.runner, normed, taught, tokens, self.loss, share)
            if normed.requires_grad:
                normed.backward(gradient)
            whole += loss
        return whole

    @torch.no_grad()
    def held_out(self) -> float:
        """The mean loss of the sequences that are held out."""
        whole = 0.0
        numbers = torch.arange(self.sequences, len(self.tokens))
        for part in numbers.split(sequences_a_batch(self, self.options)):
            tokens = self.tokens[part]
            taught = self.teacher.of(part) if self.teacher is not None else None
            with arithmetic(self.device, self.options.precision):
                normed = self._run(part)
                whole += head_loss(self.runner, normed, taught, tokens, self.loss) * len(part)
        return whole / len(numbers)

    def _run(self, sequences: Tensor, recompute: bool = False) -> Tensor:
        entering = self.entering[sequences] if self.entering is not None else None
        return normed_states(self.runner, self.tokens[sequences], recompute, self.first, entering)


def normed_states(
    runner: LayerRunner, tokens: Tensor, recompute: bool = False, first: int = 0, entering: Tensor | None = None
) -> Tensor:
    """The states after the final norm, (sequences, tokens, hidden_size).

    Args:
        runner: the model.
        tokens: int64 (sequences, tokens).
        recompute: keep only what enters each layer for the way back.
        first, entering: the layer to begin with and what enters it, where that is known.
    """
    hidden_states = runner.enter(tokens)
    if entering is not None:
        hidden_states = entering.to(hidden_states.device, hidden_states.dtype)
    for layer in range(first, len(runner)):
        if recompute and torch.is_grad_enabled():
            hidden_states = recomputed(runner.run, layer, hidden_states, use_reentrant=False)
        else:
            hidden_states = runner.run(layer, hidden_states)
    return runner.norm(hidden_states)
