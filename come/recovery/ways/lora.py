"""LoRA on the next-token loss: what is mostly done to heal a pruned model, as a comparison."""

from __future__ import annotations

from pydantic import Field

from come.recovery.registry import register
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import train_whole
from come.training.low_rank import add_low_rank, folded
from come.training.student import trainable_bundle
from come.training.trainer import BACK
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import WholeModelOptions


class LoraOptions(WholeModelOptions):
    """How low-rank additions are trained."""

    rank: int = Field(16, ge=1, description="Of the additions to every linear map of every layer.")
    alpha: float = Field(2.0, description="Their scale, as a multiple of the rank.")
    teacher: float = Field(
        0.0, ge=0, description="The weight of the original's distributions, beside 1 for the next tokens of the text."
    )


@register(
    "lora",
    title="LoRA",
    paper="Hu et al. 2021, arXiv 2106.09685",
    summary="Train low-rank additions to all linear maps on the next tokens of the text, and fold them in.",
    cost="For every step a pass of the pruned model forward and backward, with the vocabulary.",
    order=50,
    options=LoraOptions,
    work=lambda size, options: training_work(size, options, BACK * size.layers, heads=BACK),
)
def lora(task: RecoverTask, options: LoraOptions) -> Recovered:
    """Train low-rank additions to the student."""
    student, _ = trainable_bundle(task.student, lambda name: False)
    family = student.family
    layers = [f"{family.layers}.{layer}" for layer in range(len(student.layers))]
    parameters = add_low_rank(student.model, family, layers, options.rank, options.alpha, options.seed)
    outcome = train_whole(task, student, parameters, VocabularyLoss(options.teacher, 1.0), options, "lora")
    return Recovered(folded(student.model) if outcome.best_step else {}, [outcome.describe()])
