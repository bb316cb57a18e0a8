"""LoRA on the next-token loss: what is mostly done to heal a pruned model, as a comparison."""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError
from come.recovery.registry import register
from come.recovery.vocabulary import VocabularyLoss
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import WholeOptions, train_whole
from come.training.low_rank import add_low_rank, folded
from come.training.student import own_bundle
from come.training.trainer import BACK


@dataclass(frozen=True)
class LoraOptions(WholeOptions):
    """How low-rank additions are trained (``WholeOptions``).

    Attributes:
        rank: of the additions to every linear map of every layer.
        alpha: their scale, as a multiple of the rank.
        teacher: the weight of the original's distributions, beside 1 for the next tokens of the text.
    """

    rank: int = 16
    alpha: float = 2.0
    teacher: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        if self.rank < 1:
            raise ComeError(f"A rank of {self.rank} makes no sense.", "Give 1 or more; 16 is usual.")
        VocabularyLoss(self.teacher, 1.0)


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
    student, _ = own_bundle(task.student, lambda name: False)
    family = student.family
    layers = [f"{family.layers}.{layer}" for layer in range(len(student.layers))]
    parameters = add_low_rank(student.model, family, layers, options.rank, options.alpha, options.seed)
    outcome = train_whole(task, student, parameters, VocabularyLoss(options.teacher, 1.0), options, "lora")
    return Recovered(folded(student.model) if outcome.best_step else {}, [outcome.describe()])
