"""On-policy distillation: the pruned model writes, and is trained on what the original makes of its words.

Text that somebody else wrote does not show where the pruned model goes once it has erred; its own does. The loss is the
reverse KL, which has it keep to what the original finds likely (Gu et al. 2023, Agarwal et al. 2023).
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from come.models import Bundle
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Work
from come.recovery.whole_model import TRAINS, Trains, new_values, report, trainable_student, whole_work
from come.text.sampled import PROMPT_TOKENS, planned, write
from come.text.start import start_in
from come.training.checkpoint import read_state, write_state
from come.training.states import StateStore
from come.training.trainer import TrainingStep, held_out_sequences, train
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import Teacher, WholeModel, WholeModelOptions
from come.transforms.replace import replace_weights


class OnPolicyOptions(WholeModelOptions):
    """How a model is trained on its own words."""

    steps: int | None = Field(
        None, ge=1, description="How many steps; empty for as many as take as many tokens as the text has."
    )
    trains: Trains = Field("no-embeddings", description=TRAINS)
    round_tokens: int = Field(
        16384, ge=1, description="How many tokens the model writes at once; when all were taken, it writes anew."
    )


class OwnWords(WholeModel):
    """A model that is trained on what it writes, anew in every epoch; the text's last sequences are held out.

    Args:
        task: the models, and the tokens: their first ones are prompts.
        student, parameters: a copy of the student and what is trained of it.
        teacher: of ``tokens``.
        tokens: (sequences, tokens), room for what is written and then the sequences that are held out.
        written: how many are written at once.
        options: how.
    """

    def __init__(
        self,
        task: RecoverTask,
        student: Bundle,
        parameters: dict[str, nn.Parameter],
        teacher: Teacher,
        tokens: Tensor,
        written: int,
        options: OnPolicyOptions,
    ) -> None:
        super().__init__(student, parameters, teacher, tokens, VocabularyLoss(1.0, reverse=True), options)
        self.sequences, self.task, self.epoch, self.share = written, task, -1, 0.0
        self.start = start_in(task.tokens, student.tokenizer)
        self.prompts = task.tokens[: written - len(tokens), len(self.start) :]

    def renew(self, epoch: int) -> None:
        """Have the student write, as it is now; what it wrote in an epoch before a kill is read back."""
        if epoch == self.epoch:
            return
        file = self.task.checkpoint_of(f"on-policy-written-{epoch}")
        known = read_state(file)
        words = known[0]["tokens"] if known is not None else self._write(epoch)
        if file is not None and known is None:
            write_state(file, {"tokens": words}, {})
        self.tokens[: self.sequences], self.epoch = words, epoch

    def _write(self, epoch: int) -> Tensor:
        """Sequences that the student writes in its own dtype, int64 (sequences, tokens)."""
        bundle, seed = self.task.student, self.options.seed * 1_000_003 + epoch
        seq_len, prompts = self.tokens.shape[1], self.prompts[:, :PROMPT_TOKENS].tolist()
        plan, draws = planned(
            bundle.tokenizer, prompts.__getitem__, len(prompts), self.sequences, seq_len, seed, self.start
        )
        speaker = replace_weights(bundle, {name: value.detach() for name, value in self.parameters.items()})
        return write(speaker, plan, draws, lambda event: self.task.emit(self.share, event.message, layer=None))


def _work(size: RecoverySize, options: OnPolicyOptions) -> Work:
    """As of a training on new tokens, and what the student has to write for it."""
    taken = size.tokens if options.steps is None else options.steps * options.batch_tokens
    work = whole_work(replace(size, tokens=taken), options, options.trains)
    return work if options.minutes is not None else replace(work, written=taken, at_once=options.round_tokens)


@register(
    "on-policy",
    title="On-policy distillation",
    paper="Gu et al. 2023, arXiv 2306.08543; Agarwal et al. 2023, arXiv 2306.13649",
    summary="Have the pruned model write, and train it end to end to give its own words the chances that the original "
    "gives them (reverse KL).",
    cost="What logit distillation costs, and the pruned model has to write every token that it is trained on.",
    order=45,
    options=OnPolicyOptions,
    work=_work,
)
def on_policy(task: RecoverTask, options: OnPolicyOptions) -> Recovered:
    """Train the student on its own words, by the teacher's distributions."""
    student, parameters, _ = trainable_student(task, options.trains)
    held_out, (sequences, seq_len) = held_out_sequences(task.tokens, options), task.tokens.shape
    batch = max(1, options.batch_tokens // seq_len)
    steps = options.steps or math.ceil((sequences - held_out) / batch)
    steps_a_round = max(1, options.round_tokens // seq_len // batch)
    written = batch * (min(steps, steps_a_round) if options.minutes is None else steps_a_round)
    tokens = torch.cat([task.tokens.new_zeros(written, seq_len), task.tokens[-held_out:]])
    options = options.model_copy(update={"steps": steps})
    hidden_size, dtype = task.teacher.shape.hidden_size, task.teacher.dtype
    with StateStore(tokens[written:], hidden_size, dtype, 1, options.memory_budget) as store:
        teacher = Teacher(task.teacher, tokens, options, written, store)
        problem = OwnWords(task, student, parameters, teacher, tokens, written, options)

        def told(point: TrainingStep) -> None:
            problem.share = point.step / point.steps
            report(task, point)

        outcome = train(
            problem,
            options,
            checkpoint=task.checkpoint_of("on-policy-training"),
            report=told,
            stop=task.stop,
            why_not_finite=task.why_not_finite,
        )
    return new_values(parameters, outcome)
