"""Partial fine-tuning: the head and the last layers, on the next-token loss (Lu et al. 2024, arXiv 2411.15558)."""

from __future__ import annotations

from dataclasses import dataclass

from come.errors import ComeError
from come.recovery.registry import register
from come.recovery.vocabulary import VocabularyLoss
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import WholeOptions, new_values, train_whole
from come.training.student import layer_names, own_bundle
from come.training.trainer import BACK


@dataclass(frozen=True)
class PartialOptions(WholeOptions):
    """How the top of the model is trained (``WholeOptions``).

    Attributes:
        last_layers: how many layers below the head.
        teacher: the weight of the original's distributions, beside 1 for the next tokens of the text.
    """

    last_layers: int = 3
    teacher: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        if self.last_layers < 0:
            raise ComeError(f"{self.last_layers} last layers make no sense.", "Give 0 or more; 3 is usual.")
        VocabularyLoss(self.teacher, 1.0)


@register(
    "partial",
    title="Partial fine-tuning",
    paper="Lu et al. 2024, arXiv 2411.15558",
    summary="Train the head and the last three layers on the next tokens of the text.",
    cost="For every step a pass of the pruned model, and one back through its last layers.",
    order=60,
    options=PartialOptions,
    work=lambda size, options: training_work(size, options, size.layers + (BACK - 1) * options.last_layers, heads=BACK),
)
def partial(task: RecoverTask, options: PartialOptions) -> Recovered:
    """Train the head and the last layers of the student."""
    bundle = task.student
    count = len(bundle.layers)
    head = {
        f"{bundle.family.head}.{name}" for name, _ in bundle.model.get_submodule(bundle.family.head).named_parameters()
    }
    names = head | layer_names(bundle, range(max(0, count - options.last_layers), count))
    student, parameters = own_bundle(bundle, names.__contains__)
    outcome = train_whole(task, student, parameters, VocabularyLoss(options.teacher, 1.0), options, "partial")
    recovered = new_values(parameters, outcome)
    embeddings = {
        id(each) for path in bundle.family.embeddings for each in bundle.model.get_submodule(path).parameters()
    }
    if any(id(each) in embeddings for each in bundle.model.get_submodule(bundle.family.head).parameters()):
        recovered.notes.append("the head is tied to the embeddings, so these were trained with it.")
    return recovered
