"""Training a model on its next-token distributions: what the ways that do so have in common."""

from __future__ import annotations

import dataclasses
from typing import Literal

from torch import Tensor, nn

from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Work, training_work
from come.training.precision import arithmetic
from come.training.states import States, StateStore, advance, embed
from come.training.student import embedding_names, layer_names, trainable_bundle
from come.training.trainer import BACK, Outcome, TrainingStep, held_out_sequences, train
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import Teacher, WholeModel, WholeModelOptions

Trains = Literal["no-embeddings", "layers", "merged", "all"]
TRAINS = (
    "Which weights: all but the embeddings and a head tied to them, those of the layers, those of the layers that "
    "lost something (merged), or all."
)


def train_whole(
    task: RecoverTask,
    student: Bundle,
    parameters: dict[str, nn.Parameter],
    loss: VocabularyLoss,
    options: WholeModelOptions,
    name: str,
    lowest: int = 0,
) -> Outcome:
    """Train some parameters of a model of one's own, in place.

    Args:
        task: the models and tokens.
        student: a model whose trained parameters nobody else has.
        parameters: those.
        loss: what to train it to.
        options: how.
        name: of the way, for its checkpoint.
        lowest: the layer below which nothing is trained; where steps take sequences again, what enters it is kept.
    """
    tokens = task.tokens
    first = _first_to_keep(tokens, options)
    below = lowest > 0 and first == 0
    with StateStore(
        tokens[first:], task.teacher.shape.hidden_size, task.teacher.dtype, 1 + below, options.memory_budget
    ) as store:
        teacher = Teacher(task.teacher, tokens, options, first, store) if loss.teacher else None
        entering = (lowest, _entering(student, tokens, lowest, options, store)) if below else None
        problem = WholeModel(student, parameters, teacher, tokens, loss, options, entering)
        return train(
            problem,
            options,
            checkpoint=task.checkpoint_of(f"{name}-training"),
            report=lambda point: report(task, point),
            stop=task.stop,
            why_not_finite=task.why_not_finite,
        )


def _entering(student: Bundle, tokens: Tensor, layer: int, options: WholeModelOptions, store: StateStore) -> States:
    """What enters a layer of a student, of all sequences."""
    runner = LayerRunner(student)
    with arithmetic(student.model.device, options.precision):
        return advance(runner, tokens, embed(runner, tokens, store.new()), range(layer))


def _first_to_keep(tokens: Tensor, options: WholeModelOptions) -> int:
    """From which sequence on the teacher's states are kept: those held out, or all where steps take them again."""
    held_out = held_out_sequences(tokens, options)
    sequences = len(tokens) - held_out
    taken = (options.steps or 0) * max(1, options.batch_tokens // tokens.shape[1])
    return 0 if options.minutes is None and taken > sequences else sequences


def whole_work(size: RecoverySize, options: WholeModelOptions, trains: Trains) -> Work:
    """The work of training some weights of a model on the original's distributions.

    Of layers that lost something it is not known where they lie: half of the layers are taken to lie above the lowest.
    """
    once, layers = float(size.original), float(BACK * size.layers)
    if trains == "merged":
        above = (size.layers + size.lossy) / 2
        once, layers = once + size.layers - above, (BACK - 1) * above + size.lossy
    if options.minutes is None and (options.steps or 0) * options.batch_tokens > size.tokens:  # what is known is kept
        known = round(size.tokens * once / size.original)
        return training_work(size, options, layers, heads=1 + BACK, teacher_tokens=known)
    return training_work(size, options, once + layers, heads=1 + BACK)


def trainable_student(task: RecoverTask, trains: Trains) -> tuple[Bundle, dict[str, nn.Parameter], int]:
    """A copy of the student, those parameters of it that are to be trained, and the layer below which none is."""
    lossy, student = [span.layer for span in task.lossy], task.student
    names = {name for name, _ in student.model.named_parameters(remove_duplicate=False)}
    if trains == "no-embeddings":
        names -= embedding_names(student)
    elif trains != "all":
        names = layer_names(student, lossy if trains == "merged" and lossy else range(len(student.layers)))
    return *trainable_bundle(student, names.__contains__), min(lossy, default=0) if trains == "merged" else 0


def report(task: RecoverTask, point: TrainingStep) -> None:
    """Report a step of a training of the whole model."""
    held_out = f", held-out {point.held_out_loss:.4g}" if point.held_out_loss is not None else ""
    message = f"Step {point.step} of {point.steps}: loss {point.train_loss:.4g}{held_out}"
    task.emit(point.step / point.steps, message, layer=None, **dataclasses.asdict(point))


def new_values(parameters: dict[str, nn.Parameter], outcome: Outcome) -> Recovered:
    """What a training of weights themselves came to."""
    tensors = {name: parameter.detach() for name, parameter in parameters.items()}
    return Recovered(tensors if outcome.best_step else {}, [outcome.describe()])
