"""Training the layers that lost something one after the other, lowest first, on what leaves the model."""

from __future__ import annotations

import torch

from come.measurement.layer_runner import LayerRunner
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Work, training_work
from come.recovery.workers import OnLayerStep
from come.training.layer_job import LayerOptions, threads
from come.training.states import StateStore, advance, embed
from come.training.student import layer_names, trainable_bundle
from come.training.trainer import BACK, TrainOptions, train
from come.training.vocabulary_loss import VocabularyLoss
from come.training.whole_model import Teacher, WholeModel, WholeModelOptions
from come.transforms.replace import replace_weights


def distill_by_predictions(task: RecoverTask, options: LayerOptions, report: OnLayerStep) -> Recovered:
    """Train each lossy layer so that the model predicts as the original does, those above it as they are.

    The layers below are the recovered ones; what they hand up and what leaves the original is made once.

    Args:
        task: what to recover.
        options: how each layer is trained; its loss is the KL of the next-token distributions.
        report: told of the steps of each layer.
    """
    trainer = WholeModelOptions(**options.model_dump(include=set(TrainOptions.model_fields)))
    student, tokens, at = task.student, task.tokens, 0
    recovered = Recovered({})
    with (
        threads(options.threads or torch.get_num_threads()),
        StateStore(tokens, student.shape.hidden_size, task.teacher.dtype, 2, options.memory_budget) as store,
    ):
        teacher = Teacher(task.teacher, tokens, trainer, 0, store)
        entering = embed(LayerRunner(student), tokens, store.new())
        for span in task.lossy:
            advance(LayerRunner(student), tokens, entering, range(at, span.layer))
            at = span.layer
            copy, parameters = trainable_bundle(student, layer_names(student, [at]).__contains__)
            outcome = train(
                WholeModel(copy, parameters, teacher, tokens, VocabularyLoss(), trainer, (at, entering)),
                trainer,
                checkpoint=task.checkpoint_of(f"layer-{at}"),
                report=lambda point, layer=at: report(layer, point),  # type: ignore[misc]
                stop=task.stop,
                why_not_finite=task.why_not_finite,
            )
            tensors = {name: parameter.detach() for name, parameter in parameters.items()}
            student = replace_weights(student, tensors)
            recovered.tensors.update(tensors)
            recovered.notes.append(f"layer {at}: {outcome.describe()}")
    return recovered


def by_predictions_work(size: RecoverySize, options: LayerOptions) -> Work:
    """Its work: above a layer that lost something half of the layers are taken to lie."""
    layers = size.lossy * ((BACK - 1) * size.layers / 2 + 1)
    # Before that, the student's layers are run once as the original's are.
    return training_work(size, options, layers, heads=size.lossy * (1 + BACK), teacher_tokens=2 * size.tokens)
