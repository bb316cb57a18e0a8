"""Inheritune: a model that kept its first layers is trained, and grows by the original's next ones until it will do.

Sanyal et al. 2024, arXiv 2404.08634. Their models inherit half of the layers, are retrained, and expand until they
match the reference. Their program makes a model of each size from the reference's layers; here what was trained stays,
and the layers that come on top are as the original has them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import torch
from pydantic import Field, model_validator

from come.errors import ComeError
from come.recovery.put_back import put_back
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Work, training_work
from come.recovery.whole_model import TRAINS, Trains, new_values, train_whole, trainable_student
from come.training.student import trainable_bundle
from come.training.trainer import BACK
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModel, WholeModelOptions
from come.transforms.replace import replace_weights

ON_TEXT = VocabularyLoss(0.0, 1.0)


class GrowOptions(WholeModelOptions):
    """How a model is trained and grows."""

    steps: int | None = Field(
        None, ge=1, description="How many steps each training has; empty for as many as take every token once."
    )
    minutes: float | None = Field(
        None, gt=0, description="Train about so long in all, whatever the steps; each training has an equal share."
    )
    rounds: int = Field(3, ge=1, le=64, description="How many trainings at most; between two of them the model grows.")
    layers: int = Field(2, ge=1, description="By how many layers of the original it grows.")
    most_layers: int | None = Field(
        None, ge=1, description="How many layers it has in the end at most; empty for all but one of the original's."
    )
    target_loss: float | None = Field(
        None,
        gt=0,
        description="The loss on held-out text, in nats a token, at which it has grown enough; empty for the "
        "original's own.",
    )
    trains: Trains = Field("all", description=TRAINS)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.trains == "merged":
            raise ComeError("Where layers are put back, those that lost something change.", "Train layers, or all.")
        return self


def _work(size: RecoverySize, options: GrowOptions) -> Work:
    """All trainings, each of a model that is as much deeper; and the original's loss on held-out tokens."""
    most = min(options.most_layers or size.original, size.original - 1)
    depths = [min(size.layers + number * options.layers, max(most, size.layers)) for number in range(options.rounds)]
    return training_work(size, options, BACK * sum(depths), heads=BACK * options.rounds)


@register(
    "grow",
    title="Train and grow",
    paper="Sanyal et al. 2024, arXiv 2404.08634",
    summary="Train a model that kept the first layers on the next tokens of the text, and put the original's next "
    "layers on top, until it is as good as wanted on held-out text: Inheritune.",
    cost="For every step a pass of the pruned model forward and backward, with the vocabulary; several rounds of it.",
    order=70,
    options=GrowOptions,
    work=_work,
    after=("remove",),
)
def grow(task: RecoverTask, options: GrowOptions) -> Recovered:
    """Train the student, and give it more layers, until its held-out loss is that of the target."""
    assert task.plan is not None
    student, plan, notes = task.student, task.plan, list[str]()
    most = min(options.most_layers or plan.base.layers, plan.base.layers - 1)
    student, plan = put_back(student, task.teacher, plan, len(student.layers))  # refuses what cannot grow
    target = options.target_loss if options.target_loss is not None else held_out_loss(task, options)
    share = options.minutes / options.rounds if options.minutes is not None else None
    training = options.model_copy(update={"minutes": share})
    for number in range(options.rounds):
        part = replace(
            task, student=student, number=options.rounds * task.number + number, count=options.rounds * task.count
        )
        copy, parameters, _ = trainable_student(part, options.trains)
        outcome = train_whole(part, copy, parameters, ON_TEXT, training, f"grow-{len(student.layers)}")
        student = replace_weights(student, new_values(parameters, outcome).tensors)
        notes.append(f"{len(student.layers)} layers: {outcome.describe()}")
        stopped = task.stop is not None and task.stop()
        met = outcome.best_loss <= target
        grown = min(len(student.layers) + options.layers, most)
        if met or stopped or number == options.rounds - 1 or grown <= len(student.layers):
            break
        student, plan = put_back(student, task.teacher, plan, grown)
    whose = "the original's" if options.target_loss is None else "as given"
    notes.append(f"the target, {whose}, of {target:.4g} was {'met' if met else 'not met'}.")
    tensors = {name: parameter.detach() for name, parameter in student.model.named_parameters()}
    return Recovered(tensors, notes, layers=len(student.layers))


@torch.no_grad()
def held_out_loss(task: RecoverTask, options: GrowOptions) -> float:
    """The original's next-token loss on the sequences that are held out, in nats a token."""
    teacher, _ = trainable_bundle(task.teacher, lambda name: False)
    return WholeModel(teacher, {}, None, task.tokens, ON_TEXT, options).held_out()
