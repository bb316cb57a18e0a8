"""Training one layer on the hidden states that should enter and leave it: a job that any process can do by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from come.errors import ComeError
from come.measurement.layer_runner import Call, LayerRunner
from come.models import Family
from come.models.not_finite import FIRST, OTHERWISE
from come.training.losses import LOSSES, Loss
from come.training.low_rank import add_low_rank, folded
from come.training.precision import arithmetic
from come.training.states import States
from come.training.student import keep_silenced, trainable_copy
from come.training.trainer import Outcome, Report, TrainOptions, held_out_sequences, sequences_a_batch, train


class LayerOptions(TrainOptions):
    """How a layer is trained, and on what loss."""

    loss: Loss = Field(
        "mse",
        description="What the layer's output is held to the original's by: the squared difference as a share of the "
        "target's square (mse) or plainly, the cosine, or KL of softmaxes over the channels.",
    )
    rank: int | None = Field(
        None, ge=1, description="Train low-rank additions (LoRA) of that rank instead of the weights; empty for these."
    )
    alpha: float = Field(2.0, description="LoRA's scale, as a multiple of the rank.")
    threads: int | None = Field(
        None, ge=1, description="CPU threads a layer; where it is the same, two runs give the same bits."
    )


@dataclass
class LayerJob:
    """All that training a layer takes.

    Attributes:
        layer: its number in the student.
        module: the layer, or something that runs several one after the other; it stays as it is.
        family: where it keeps its parts.
        calls: what else the layer is called with, by how many sequences there are.
        entering, leaving: the hidden states, of all sequences; the last ones are held out.
        held_out: how many.
        device: where to train.
        options: how.
        threads: CPU threads.
        checkpoint: the file for its state.
        layers: where in the module the layers are; "" is the module itself.
        trains: the names of the parameters that are trained; None for all.
    """

    layer: int
    module: nn.Module
    family: Family
    calls: dict[int, Call]
    entering: States
    leaving: States
    held_out: int
    device: torch.device
    options: LayerOptions
    threads: int
    checkpoint: Path | None = None
    layers: tuple[str, ...] = ("",)
    trains: frozenset[str] | None = None


@dataclass(frozen=True)
class TrainedLayer:
    """What a job came to: the layer's new parameters by their names in the layer, float32, and how it went."""

    layer: int
    tensors: dict[str, Tensor]
    outcome: Outcome = field(default_factory=Outcome)


def train_layer(job: LayerJob, report: Report | None = None, stop: Callable[[], bool] | None = None) -> TrainedLayer:
    """Do a job, on as many threads as it says."""
    with threads(job.threads):
        problem = LayerProblem(job)
        what = f"The loss of layer {job.layer}{FIRST} of the pruned model is no number before it is trained."
        outcome = train(
            problem,
            job.options,
            checkpoint=job.checkpoint,
            report=report,
            stop=stop,
            why_not_finite=lambda: ComeError(what, OTHERWISE),
        )
        return TrainedLayer(job.layer, problem.trained(), outcome)


class LayerProblem:
    """One layer, and the hidden states that should enter and leave it."""

    def __init__(self, job: LayerJob) -> None:
        rank, family = job.options.rank, job.family
        self.job, self.loss = job, LOSSES[job.options.loss]
        trained = job.trains
        self.module, self.parameters = trainable_copy(
            job.module, lambda name: rank is None and (trained is None or name in trained)
        )
        if rank is None:
            for layer in job.layers:
                keep_silenced(self.module.get_submodule(layer), family, self.parameters.values())
        else:
            self.parameters = add_low_rank(self.module, family, job.layers, rank, job.options.alpha, job.options.seed)
        self.seq_len = job.entering.shape[1]
        self.sequences = job.entering.shape[0] - job.held_out

    def run(self, sequences: Tensor | slice) -> tuple[Tensor, Tensor]:
        """What the layer makes of some sequences, and what it should."""
        entering, wanted = (
            states[sequences].to(self.job.device, torch.float32) for states in (self.job.entering, self.job.leaving)
        )
        args, kwargs = self.job.calls[len(entering)]
        with arithmetic(self.job.device, self.job.options.precision):
            output = self.module(entering, *args, **kwargs)
        return (output if isinstance(output, Tensor) else output[0]), wanted

    def gradients(self, sequences: Tensor) -> float:
        """Add the gradient of the loss of some sequences to the parameters'; returns the loss."""
        loss = self.loss(*self.run(sequences))
        loss.backward()
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self) -> float:
        """The mean loss of the sequences that are held out."""
        size, total = sequences_a_batch(self, self.job.options), self.sequences + self.job.held_out
        whole = 0.0
        for start in range(self.sequences, total, size):
            rows = slice(start, min(start + size, total))
            whole += float(self.loss(*self.run(rows))) * (rows.stop - rows.start)
        return whole / self.job.held_out

    def trained(self) -> dict[str, Tensor]:
        """The layer's parameters as they are now, by name."""
        if self.job.options.rank is not None:
            return folded(self.module)
        return {name: parameter.detach().cpu() for name, parameter in self.parameters.items()}


def calls_for(runner: LayerRunner, layer: int, tokens: Tensor, options: TrainOptions) -> dict[int, Call]:
    """What a layer is called with, for every batch size that training and holding out come to."""
    held_out = held_out_sequences(tokens, options)
    size = min(len(tokens) - held_out, max(1, options.batch_tokens // tokens.shape[1]))
    sizes = {size, min(size, held_out), held_out % size} - {0}
    found = {}
    for each in sizes:
        with torch.no_grad():
            runner.enter(tokens[:each])
        args, kwargs = runner.call(layer, tokens[:each].shape)
        found[each] = _float32(args), _float32(kwargs)
    return found


def _float32(value: Any) -> Any:
    """The same with every tensor of numbers as float32, as the layer is when it is trained."""
    if isinstance(value, Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, tuple | list):
        return type(value)(_float32(each) for each in value)
    return {name: _float32(each) for name, each in value.items()} if isinstance(value, dict) else value


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Within, CPU work is done on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
