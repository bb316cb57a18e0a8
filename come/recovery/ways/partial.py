"""Partial fine-tuning: the head, the final norm and the last layers, on the text (Lu et al. 2024, arXiv 2411.15558).

The published program freezes all else. Its texts are instructions, of which it learns the answers only; here every
token of the text counts.
"""

from __future__ import annotations

from pydantic import Field

from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import new_values, train_whole
from come.training.student import layer_names, trainable_bundle
from come.training.trainer import BACK
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModelOptions


class PartialOptions(WholeModelOptions):
    """How the top of the model is trained."""

    last_layers: int = Field(
        3, ge=0, description="How many layers below the head; the paper tries 1, 2 and 3, and 0 beside its norm."
    )
    final_norm: bool = Field(True, description="Also the norm between the last layer and the head, as published.")
    teacher: float = Field(
        0.0, ge=0, description="The weight of the original's distributions, beside 1 for the next tokens of the text."
    )


@register(
    "partial",
    title="Partial fine-tuning",
    paper="Lu et al. 2024, arXiv 2411.15558",
    summary="Train the head, the final norm and the last three layers on the next tokens of the text.",
    cost="For every step a pass of the pruned model, and one back through its last layers.",
    order=60,
    options=PartialOptions,
    work=lambda size, options: training_work(size, options, size.layers + (BACK - 1) * options.last_layers, heads=BACK),
)
def partial(task: RecoverTask, options: PartialOptions) -> Recovered:
    """Train the head and the last layers of the student."""
    bundle = task.student
    count = len(bundle.layers)
    above = (bundle.family.head, *((bundle.family.final_norm,) if options.final_norm else ()))
    names = layer_names(bundle, range(max(0, count - options.last_layers), count)) | {
        f"{path}.{name}" for path in above for name, _ in bundle.model.get_submodule(path).named_parameters()
    }
    student, parameters = trainable_bundle(bundle, names.__contains__)
    outcome = train_whole(task, student, parameters, VocabularyLoss(options.teacher, 1.0), options, "partial")
    recovered = new_values(parameters, outcome)
    embeddings = {
        id(each) for path in bundle.family.embeddings for each in bundle.model.get_submodule(path).parameters()
    }
    if any(id(each) in embeddings for each in bundle.model.get_submodule(bundle.family.head).parameters()):
        recovered.notes.append("the head is tied to the embeddings, so these were trained with it.")
    return recovered
