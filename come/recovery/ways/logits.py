"""Logit distillation: the whole pruned model is trained end to end to predict what the original predicts.

The text's own next tokens have a say too: docs/results.md tells what that gains.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from come.models import Bundle
from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import WholeModelOptions, new_values, train_whole
from come.training.student import embedding_names, layer_names, trainable_bundle
from come.training.trainer import BACK
from come.training.vocabulary_loss import VocabularyLoss

Trains = Literal["no-embeddings", "layers", "merged", "all"]


class LogitsOptions(WholeModelOptions):
    """How the whole model is trained on the original's distributions."""

    trains: Trains = Field(
        "no-embeddings",
        description="Which weights: all but the embeddings and a head tied to them, those of the layers, those of "
        "the layers that lost something (merged), or all.",
    )
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
    work=lambda size, options: training_work(size, options, size.original + BACK * size.layers, heads=1 + BACK),
)
def logits(task: RecoverTask, options: LogitsOptions) -> Recovered:
    """Train the student on the teacher's distributions."""
    names = _trained(task.student, options.trains, [span.layer for span in task.lossy])
    student, parameters = trainable_bundle(task.student, names.__contains__)
    loss = VocabularyLoss(1.0, options.text, options.temperature, options.top_k)
    outcome = train_whole(task, student, parameters, loss, options, "logits")
    return new_values(parameters, outcome)


def _trained(student: Bundle, trains: Trains, merged: list[int]) -> set[str]:
    """The full names of what is trained."""
    everything = {name for name, _ in student.model.named_parameters(remove_duplicate=False)}
    if trains == "all":
        return everything
    if trains == "no-embeddings":
        return everything - embedding_names(student)
    return layer_names(student, merged if trains == "merged" and merged else range(len(student.layers)))
