"""Logit distillation: the whole pruned model is trained end to end to predict what the original predicts.

The text's own next tokens have a say too: docs/results.md tells what that gains.
"""

from __future__ import annotations

from pydantic import Field

from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask
from come.recovery.whole_model import TRAINS, Trains, new_values, train_whole, trainable_student, whole_work
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModelOptions


class LogitsOptions(WholeModelOptions):
    """How the whole model is trained on the original's distributions."""

    trains: Trains = Field("no-embeddings", description=TRAINS)
    top_k: int | None = Field(
        None, ge=1, description="Take the original's k likeliest tokens and all others as one; empty for all tokens."
    )
    temperature: float = Field(1.0, gt=0, description="Of both distributions.")
    text: float = Field(
        0.3,
        ge=0,
        description="The weight of the next-token loss on the text, beside 1 for the original's distributions.",
    )


@register(
    "logits",
    title="Logit distillation",
    paper="Hinton et al. 2015, arXiv 1503.02531",
    summary="Train the pruned model end to end (by default all but its embeddings and a head tied to them) on the "
    "original's next-token distributions, and a little on the text.",
    cost="For every step a pass of the original, and one of the pruned model forward and backward.",
    order=40,
    default=True,  # after a refit, it gave back most for its time: docs/results.md
    options=LogitsOptions,
    work=lambda size, options: whole_work(size, options, options.trains),
)
def logits(task: RecoverTask, options: LogitsOptions) -> Recovered:
    """Train the student on the teacher's distributions."""
    student, parameters, lowest = trainable_student(task, options.trains)
    loss = VocabularyLoss(1.0, options.text, options.temperature, options.top_k)
    return new_values(parameters, train_whole(task, student, parameters, loss, options, "logits", lowest))
