"""Logit distillation: the whole pruned model is trained end to end to predict what the original predicts.

The text's own next tokens have a say too: docs/results.md tells what that gains.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from come.errors import ComeError
from come.models import Bundle
from come.recovery.registry import register
from come.recovery.vocabulary import VocabularyLoss
from come.recovery.way import Recovered, RecoverTask, training_work
from come.recovery.whole_model import WholeOptions, new_values, train_whole
from come.training.student import embedding_names, layer_names, own_bundle
from come.training.trainer import BACK

Trains = Literal["no-embeddings", "layers", "merged", "all"]


@dataclass(frozen=True)
class LogitsOptions(WholeOptions):
    """How the whole model is trained on the original's distributions (``WholeOptions``).

    Attributes:
        trains: "no-embeddings": all weights but the embeddings and a head tied to them; "layers": those of the
            layers; "merged": those of the layers that lost something; "all".
        top_k: take the original's k likeliest tokens and all others as one; None for the full vocabulary.
        temperature: of both distributions.
        text: the weight of the next-token loss on the text, beside 1 for the original's distributions; 0 for these
            alone.
    """

    trains: Trains = "no-embeddings"
    top_k: int | None = None
    temperature: float = 1.0
    text: float = 0.3

    def __post_init__(self) -> None:
        """Refuse values that make no sense for any model."""
        super().__post_init__()
        if self.trains not in get_args(Trains):
            raise ComeError(
                f"There is nothing named {self.trains!r} to train.", f"Choose from {', '.join(get_args(Trains))}."
            )
        _ = self.loss

    @property
    def loss(self) -> VocabularyLoss:
        """The loss that they ask for."""
        return VocabularyLoss(1.0, self.text, self.temperature, self.top_k)


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
    student, parameters = own_bundle(task.student, names.__contains__)
    outcome = train_whole(task, student, parameters, options.loss, options, "logits")
    return new_values(parameters, outcome)


def _trained(student: Bundle, trains: Trains, merged: list[int]) -> set[str]:
    """The full names of what is trained."""
    everything = {name for name, _ in student.model.named_parameters(remove_duplicate=False)}
    if trains == "all":
        return everything
    if trains == "no-embeddings":
        return everything - embedding_names(student)
    return layer_names(student, merged if trains == "merged" and merged else range(len(student.layers)))
