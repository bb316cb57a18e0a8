"""Taylor: remove the layers that the loss feels least, to first order (Shortened LLaMA, arXiv 2402.02834).

What is scored are the weights of a layer's linear maps, as the paper's text has it; its published code adds the norms.
"""

from __future__ import annotations

import time
from collections import deque

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import each_border, states_at
from come.models import Bundle
from come.pruning.common import lowest
from come.pruning.forecast import Known
from come.pruning.gradients import gradient_of_the_head, in_float32
from come.pruning.method import Task
from come.pruning.methods.magnitude import MagnitudeOptions, linear_paths, removable
from come.pruning.options import CachedPassOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule
from come.training.trainer import BACK


class TaylorOptions(MagnitudeOptions, CachedPassOptions):
    """Which layers may go, and how passes are made."""


def work(known: Known, _options: TaylorOptions, tokens: Calibration) -> Schedule:
    """Up; then each layer again, and back through it and its weights."""
    layers = known.layers
    again = layers * (tokens.stride - 1) / 2  # what enters a layer is run from the nearest border kept
    return Schedule(unmeasured=(1 + BACK) * layers + again, in_float32=float(BACK * layers), heads=BACK)


@register(
    "taylor",
    title="Taylor",
    paper="Kim et al. 2024, arXiv 2402.02834",
    summary="Remove the layers of lowest sum of abs(w * dL/dw), by default of those in the middle.",
    kind="remove",
    options=TaylorOptions,
    needs=("logits", "gradients"),
    cost="Two passes forwards and one backwards over the calibration tokens; the gradients of one layer in memory.",
    work=work,
)
def taylor(task: Task, options: TaylorOptions) -> Result:
    """Remove the layers of lowest ``saliences``, the first on ties."""
    if task.finished:
        return Result(task.current, task.plan)
    layers = len(task.original.layers)
    began = time.perf_counter()
    scores = saliences(
        task.original,
        task.tokens,
        batch_size=options.batch_size,
        memory_budget=options.memory_budget,
        on_progress=task.on_progress,
    )
    gone = lowest(scores, layers - task.target_layers, removable(options.plus, layers))
    return remove(task, options, gone, seconds=time.perf_counter() - began)


def saliences(
    bundle: Bundle,
    tokens: Tensor,
    *,
    batch_size: int | None = None,
    memory_budget: int | None = None,
    on_progress: OnProgress = None,
) -> Tensor:
    """The sum of abs(w * dL/dw) over each layer's linear maps, (layers,), float32; L is the calibration loss.

    The gradient is that over all tokens, so it is summed up before the absolute value. That takes no more memory than
    a layer: going down, a layer is run again on what entered it, for all batches, before the next.

    Args:
        bundle: the model; it is left as it was.
        tokens: int64 (sequences, tokens).
        batch_size: sequences at a time; about 2,048 tokens by default.
        memory_budget: bytes for hidden states at layer borders; a quarter of the free memory by default.
        on_progress: told of each layer.

    Raises:
        ComeError: hidden states or gradients are not finite.
    """
    runner, todo, layers = LayerRunner(bundle), list(batches(tokens, batch_size)), len(bundle.layers)
    borders = HiddenStateCache.of(bundle, tokens, memory_budget)
    upstream: list[Tensor] = []  # for each batch, the gradient by what leaves the layer in turn
    for batch in todo:
        with torch.no_grad():
            _, hidden_states = deque(each_border(runner, batch, borders), maxlen=1).pop()
        upstream.append(gradient_of_the_head(runner, hidden_states, batch.tokens) / len(tokens))
        emit(on_progress, "compress", 250 * (batch.index + 1) // len(todo), 1000, "Running the model")
    scores = torch.zeros(layers)
    for layer in reversed(range(layers)):
        module = in_float32(bundle.layers[layer])
        weights = [module.get_parameter(f"{path}.weight").requires_grad_() for path in linear_paths(bundle.family)]
        sums = [torch.zeros_like(weight) for weight in weights]
        for batch in todo:
            with torch.no_grad():
                hidden_states = states_at(runner, batch.index, batch.tokens, layer, borders)
            given = hidden_states.detach().float().requires_grad_()
            left = runner.run(layer, given, module)
            by_given, *gradients = torch.autograd.grad(left, [given, *weights], upstream[batch.index].to(left.device))
            upstream[batch.index] = by_given.cpu()
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient
        scores[layer] = sum(
            float((weight.detach() * total).abs().sum()) for weight, total in zip(weights, sums, strict=True)
        )
        check_finite(scores, runner)
        emit(on_progress, "compress", 250 + 750 * (layers - layer) // layers, 1000, f"Gradients of layer {layer}")
    return scores
