"""Judging a model: text that it was not calibrated on, questions, speed; and what is left of the original's."""

from come.evaluate.accuracy import Accuracy, accuracy, measure_accuracy
from come.evaluate.divergence import (
    Divergence,
    kl_divergence,
    measure_divergence,
    perplexity_of_reference,
)
from come.evaluate.perplexity import Perplexity, measure_perplexity, perplexity
from come.evaluate.probe import not_probed, probe
from come.evaluate.probed import Probe, mean_probe
from come.evaluate.retention import mean_retention, retained, retained_by_task, retention
from come.evaluate.speed import Speed, compare_speed, speed
from come.evaluate.stability import stability, stability_by_task
from come.evaluate.tasks import check_tasks
from come.measurement.divergence import Reference, reference

__all__ = [
    "Accuracy",
    "Divergence",
    "Perplexity",
    "Probe",
    "Reference",
    "Speed",
    "accuracy",
    "check_tasks",
    "compare_speed",
    "kl_divergence",
    "mean_probe",
    "mean_retention",
    "measure_accuracy",
    "measure_divergence",
    "measure_perplexity",
    "not_probed",
    "perplexity",
    "perplexity_of_reference",
    "probe",
    "reference",
    "retained",
    "retained_by_task",
    "retention",
    "speed",
    "stability",
    "stability_by_task",
]
