"""The one trainer that every way shares: AdamW, warm-up and cosine decay, clipping, keeping the best, resuming.

A step's batch follows from the seed and the step's number alone, so a run that was killed goes on to the same weights.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from pydantic import Field
from torch import Tensor, nn

from come.errors import ComeError
from come.options import Options
from come.training.checkpoint import keep_training, restore_training
from come.training.precision import Precision

BETAS = (0.9, 0.95)
BACK = 3  # what a step's forward and backward take, in forwards
NOT_FINITE = ComeError("The loss is no number before the first step of a training.", "Look at the models' own losses.")
DIVERGED = 3.0  # times the held-out loss at the start


class TrainOptions(Options):
    """How anything is trained."""

    lr: float = Field(3e-4, gt=0, description="The highest learning rate.")
    steps: int | None = Field(None, ge=1, description="How many steps; empty for as many as take every token once.")
    minutes: float | None = Field(
        None, gt=0, description="Train about so long instead, whatever the steps; a few steps are timed first."
    )
    batch_tokens: int = Field(2048, ge=1, description="Tokens a step.")
    warmup: float = Field(
        0.1,
        ge=0,
        le=1,
        description="The share of the steps in which the learning rate rises; it falls by a cosine after.",
    )
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay of the weights.")
    clip: float = Field(1.0, gt=0, description="The largest norm of a gradient; longer ones are shortened to it.")
    held_out_tokens: int = Field(
        4096, ge=1, description="How many tokens, an eighth of all at most, only decide which weights are the best."
    )
    check_every: int = Field(8, ge=1, description="After how many steps the held-out tokens are asked.")
    patience: int | None = Field(
        None, ge=1, description="Stop after so many checks without a better one; empty to go on to the end."
    )
    precision: Precision = Field(
        "auto", description="Of matrix products; auto is bfloat16 where the device is quick at it."
    )
    seed: int = Field(0, description="Of the order of the batches.")
    checkpoint_minutes: float = Field(
        3.0, ge=0, description="How often a state is written that a killed run goes on from."
    )
    memory_budget: int | None = Field(
        None, ge=0, description="Bytes for hidden states; empty for a quarter of the free memory."
    )


class Problem(Protocol):
    """Something to train.

    Attributes:
        parameters: what is trained, by name; float32.
        sequences: how many sequences there are to train on.
        seq_len: tokens in one.
    """

    parameters: dict[str, nn.Parameter]
    sequences: int
    seq_len: int

    def gradients(self, sequences: Tensor) -> float:
        """Add the gradient of the mean loss of some sequences, by number, to the parameters'; returns the loss."""

    def held_out(self) -> float:
        """The mean loss of the sequences that are held out."""


@runtime_checkable
class Renewed(Protocol):
    """A problem whose sequences are others each time that all were taken; a batch's size divides their number."""

    def renew(self, epoch: int) -> None:
        """Put the sequences of an epoch, counted from 0, in place."""


@dataclass(frozen=True)
class TrainingStep:
    """A step that was taken: its number, of how many, its losses (held-out where it was asked), its learning rate."""

    step: int
    steps: int
    train_loss: float
    held_out_loss: float | None
    lr: float


Report = Callable[[TrainingStep], None]


@dataclass
class Outcome:
    """How a training went.

    Attributes:
        step: how many steps were taken, of ``steps``.
        best_step, best_loss: after which step the held-out loss was lowest; 0 is the start.
        start_loss: the held-out loss at the start.
        ended: "" for all steps taken, else why not, in words.
        curve: every step as (step, training loss, held-out loss or None, learning rate).
    """

    step: int = 0
    steps: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    start_loss: float = math.inf
    checks_without: int = 0
    ended: str = ""
    finished: bool = False
    curve: list[list[Any]] = field(default_factory=list)

    def describe(self) -> str:
        """The outcome in a sentence or two."""
        loss = f"held-out loss {self.start_loss:.4g} to {self.best_loss:.4g}, best after step {self.best_step}"
        return f"{loss} of {self.step}{f' ({self.ended})' if self.ended else ''}."


def train(
    problem: Problem,
    options: TrainOptions,
    *,
    checkpoint: Path | None = None,
    report: Report | None = None,
    stop: Callable[[], bool] | None = None,
    why_not_finite: Callable[[], ComeError] = lambda: NOT_FINITE,
) -> Outcome:
    """Train a problem's parameters; at the end they are the best that held-out tokens have seen, the start included.

    Args:
        problem: what is trained on what.
        options: how.
        checkpoint: a file; what it holds is gone on from, and it is written every few minutes.
        report: told of each step.
        stop: asked before each step whether to stop here and keep the best.
        why_not_finite: asked what to tell where the loss is no number before the first step.

    Raises:
        ComeError: the loss is no number before the first step. (A training that diverges ends, and keeps the best.)
    """
    parameters = problem.parameters
    optimizer = _optimizer(parameters, options)
    best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    size = sequences_a_batch(problem, options)
    outcome = restore_training(checkpoint, parameters, best, optimizer, Outcome)
    if outcome is None:
        began = time.perf_counter()
        outcome = Outcome(start_loss=problem.held_out())
        if not math.isfinite(outcome.start_loss):
            raise why_not_finite()
        outcome.best_loss = outcome.start_loss
        outcome.steps = _steps(problem, options, size, time.perf_counter() - began)
    written = time.monotonic()
    while not outcome.finished:
        if stop is not None and stop():
            outcome.ended = "stopped early, the best kept"
            break
        point = _step(problem, options, optimizer, outcome, best, size)
        if checkpoint is not None and time.monotonic() - written >= 60 * options.checkpoint_minutes:
            keep_training(checkpoint, dataclasses.asdict(outcome), parameters, best, optimizer)
            written = time.monotonic()
        if report is not None and point is not None:
            report(point)
    outcome.finished = True
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(best[name])
            parameter.grad = None
    if checkpoint is not None:
        keep_training(checkpoint, dataclasses.asdict(outcome), {}, best, optimizer)
    return outcome


def sequences_a_batch(problem: Problem, options: TrainOptions) -> int:
    """How many sequences a step takes: all of them at most."""
    return min(problem.sequences, max(1, options.batch_tokens // problem.seq_len))


def batch_of(step: int, size: int, sequences: int, seed: int) -> Tensor:
    """The numbers of the sequences of a step, (size,): every sequence once, in a random order, then in another."""
    places = range(step * size, (step + 1) * size)
    return torch.tensor([_order(place // sequences, sequences, seed)[place % sequences] for place in places])


def learning_rate(step: int, steps: int, options: TrainOptions) -> float:
    """The learning rate of a step, counted from 0: a linear rise, then half a cosine towards 0."""
    rise = max(1, round(options.warmup * steps))
    if step < rise:
        return options.lr * (step + 1) / rise
    return options.lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def held_out_sequences(tokens: Tensor, options: TrainOptions) -> int:
    """How many sequences, the last ones, are held out: an eighth, within ``held_out_tokens``, at least one."""
    return _held_out(len(tokens), tokens.shape[1], options)


def tokens_taken(options: TrainOptions, tokens: int, seq_len: int) -> int:
    """How many tokens a training by steps goes over in all, its checks of the held-out ones included.

    Args:
        options: how; without ``minutes``.
        tokens, seq_len: how many there are to learn from, and in a sequence.
    """
    sequences = max(2, tokens // seq_len)
    held_out = _held_out(sequences, seq_len, options)
    size = min(sequences - held_out, max(1, options.batch_tokens // seq_len))
    steps = options.steps or math.ceil((sequences - held_out) / size)
    checks = 2 + steps // options.check_every  # one before the first step, one after the last
    return (steps * size + checks * held_out) * seq_len


def _held_out(sequences: int, seq_len: int, options: TrainOptions) -> int:
    return max(1, min(sequences // 8, options.held_out_tokens // seq_len))


@lru_cache(maxsize=4)
def _order(epoch: int, sequences: int, seed: int) -> list[int]:
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    return torch.randperm(sequences, generator=generator).tolist()


def _step(
    problem: Problem,
    options: TrainOptions,
    optimizer: torch.optim.Optimizer,
    outcome: Outcome,
    best: dict[str, Tensor],
    size: int,
) -> TrainingStep | None:
    """Take one step, and ask the held-out tokens where it is their turn; None where the training diverged."""
    rate = learning_rate(outcome.step, outcome.steps, options)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad(set_to_none=True)
    _renew(problem, outcome.step, size)
    loss = problem.gradients(batch_of(outcome.step, size, problem.sequences, options.seed))
    norm = float(torch.nn.utils.clip_grad_norm_(problem.parameters.values(), options.clip))
    if not (math.isfinite(loss) and math.isfinite(norm)):
        _diverged(outcome, options, outcome.step + 1)
        return None
    optimizer.step()
    outcome.step += 1
    last = outcome.step == outcome.steps
    held_out = None
    if last or outcome.step % options.check_every == 0:
        held_out = problem.held_out()
        _judge(held_out, problem, options, outcome, best)
        held_out = held_out if math.isfinite(held_out) else None
    outcome.finished = outcome.finished or last
    outcome.curve.append([outcome.step, loss, held_out, rate])
    return TrainingStep(outcome.step, outcome.steps, loss, held_out, rate)


def _renew(problem: Problem, step: int, size: int) -> None:
    if isinstance(problem, Renewed):
        problem.renew(step * size // problem.sequences)


def _judge(held_out: float, problem: Problem, options: TrainOptions, outcome: Outcome, best: dict[str, Tensor]) -> None:
    """Keep the weights if they are the best so far; end a training that diverged or gets no better."""
    if held_out < outcome.best_loss:
        outcome.best_loss, outcome.best_step, outcome.checks_without = held_out, outcome.step, 0
        for name, parameter in problem.parameters.items():
            best[name].copy_(parameter.detach())
        return
    outcome.checks_without += 1
    if not held_out < DIVERGED * outcome.start_loss + 1e-6:
        _diverged(outcome, options, outcome.step)
    elif options.patience is not None and outcome.checks_without >= options.patience:
        outcome.ended = f"no better for {outcome.checks_without} checks"
        outcome.finished = True


def _diverged(outcome: Outcome, options: TrainOptions, step: int) -> None:
    outcome.ended = f"diverged at step {step} with a learning rate of {options.lr:g}; the best was kept"
    outcome.finished = True


def _steps(problem: Problem, options: TrainOptions, size: int, seconds_a_check: float) -> int:
    """How many steps to take; where minutes are given, as many as fit them by the time that a step takes here."""
    if options.minutes is None:
        return options.steps or math.ceil(problem.sequences / size)
    began = time.perf_counter()
    _renew(problem, 0, size)
    seconds_to_renew = (time.perf_counter() - began) * size / problem.sequences  # a step's share
    for _ in range(2):  # the first one warms up
        began = time.perf_counter()
        problem.gradients(batch_of(0, size, problem.sequences, options.seed))
        seconds = time.perf_counter() - began
    for parameter in problem.parameters.values():
        parameter.grad = None
    left = 60 * options.minutes - 2 * seconds - seconds_a_check
    return max(1, int(left / (1.03 * seconds + seconds_a_check / options.check_every + seconds_to_renew)))


def _optimizer(parameters: dict[str, nn.Parameter], options: TrainOptions) -> torch.optim.AdamW:
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters.values())
    decay = options.weight_decay
    return torch.optim.AdamW(list(parameters.values()), lr=options.lr, betas=BETAS, weight_decay=decay, fused=fused)
