"""Speed of training: a layer's steps against the machine's matrix products, and what the vocabulary takes of a step."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

import come
from benchmarks.memory import MIB, watched
from benchmarks.timing import bundled, in_turn, markdown, ratio
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.training.layer_job import LayerJob, LayerOptions, LayerProblem, calls_for
from come.training.precision import Precision, arithmetic
from come.training.states import StateStore, advance, embed
from come.training.student import embedding_names, trainable_bundle
from come.training.trainer import BETAS
from come.training.vocabulary_loss import VocabularyLoss, head_gradients
from come.training.whole_model import Teacher, WholeModel, WholeModelOptions, normed_states

ROUNDS, STEPS, LAYER = 3, 4, 12
BATCH_TOKENS, SEQ_LEN = 2048, 512
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

_WORK = """
import sys
from benchmarks.training import memory_of
print(memory_of(int(sys.argv[1])))
"""


def table(rounds: int = ROUNDS) -> str:
    """The layer-wise loop, then the end-to-end step, then memory against the sequences of a step."""
    bundle, tokens = bundled("float32", n_tokens=2 * BATCH_TOKENS, seq_len=SEQ_LEN)
    columns: tuple[str, ...] = ("precision", "matrix products, GFLOP/s", "a layer's step, GFLOP/s", "step / products")
    of_a_layer = markdown(
        columns, [(precision, *layerwise(bundle, tokens, precision, rounds)) for precision in PRECISIONS]
    )
    columns = ("precision", "step, s", "vocabulary / step", "optimiser / step", "teacher / step")
    whole = markdown(columns, [_end_to_end(bundle, tokens, precision, rounds) for precision in PRECISIONS])
    columns = ("sequences a step", "micro_tokens", "on top of loaded, MiB")
    memory = markdown(columns, [_memory(count) for count in (8, 16, 32)])
    columns = ("dtype", "CoMe 30 → 24, s", "with a refit after each merge / without")
    refits = markdown(columns, [_refit(dtype, rounds) for dtype in PRECISIONS])
    return "\n\n".join((refits, of_a_layer, whole, memory))


def _refit(dtype: str, rounds: int) -> tuple[str | float, ...]:
    """CoMe's loop over the calibration tokens, and the same with the least-squares refit."""
    bundle, tokens = bundled(dtype)
    works = [
        lambda refit=refit: come.compress(bundle, tokens, target_layers=24, refit=refit) for refit in (False, True)
    ]
    plain, refitted = in_turn(works, rounds)
    return dtype, statistics.median(plain), ratio(refitted, plain)


def layerwise(
    bundle: Bundle, tokens: torch.Tensor, precision: Precision, rounds: int, layer: int = LAYER
) -> tuple[float, float, float]:
    """A step of one layer (forward, loss, backward, clipping and AdamW), where the model is.

    Returns:
        GFLOP/s of the bare products of its weights, GFLOP/s of the step, and the second over the first.
    """
    runner, device, seq_len = LayerRunner(bundle), bundle.model.device, tokens.shape[1]
    options = LayerOptions(precision=precision, batch_tokens=BATCH_TOKENS)
    with StateStore(tokens, bundle.shape.hidden_size, torch.float32) as store:
        entering = embed(runner, tokens, store.new())
        leaving = advance(runner, tokens, entering, range(0, 2), store.new())
        job = LayerJob(
            layer, bundle.layers[layer], bundle.family, calls_for(runner, 0, tokens, options), entering, leaving, 1,
            device, options, torch.get_num_threads(),
        )  # fmt: skip
        problem = LayerProblem(job)
        step = _step(problem.parameters, lambda: problem.gradients(torch.arange(BATCH_TOKENS // seq_len)))
        product, product_flops = _products(bundle, precision, layer)
        step()
        product()
        products, steps = in_turn([lambda work=work: _repeated(work) for work in (product, step)], rounds)
    weights = sum(parameter.numel() for parameter in problem.parameters.values() if parameter.dim() == 2)
    # Causal attention is half of the square: two products forward, four back.
    attention = 6 * BATCH_TOKENS * seq_len * bundle.shape.hidden_size
    flops = 6 * weights * BATCH_TOKENS + attention
    rate, reached = (
        STEPS * work / statistics.median(taken) / 1e9 for work, taken in ((product_flops, products), (flops, steps))
    )
    return rate, reached, reached / rate


def _products(bundle: Bundle, precision: Precision, layer: int) -> tuple[Callable[[], None], int]:
    """The products of a layer's weights with a batch, forward and both ways back, and nothing else."""
    dtype, device = getattr(torch, precision), bundle.model.device
    shapes = [each.shape for each in bundle.layers[layer].parameters() if each.dim() == 2]
    weights = [torch.randn(shape, dtype=dtype, device=device) for shape in shapes]
    inputs = [torch.randn(BATCH_TOKENS, shape[1], dtype=dtype, device=device) for shape in shapes]
    outputs = [torch.randn(BATCH_TOKENS, shape[0], dtype=dtype, device=device) for shape in shapes]

    def work() -> None:
        for weight, entering, leaving in zip(weights, inputs, outputs, strict=True):
            functional.linear(entering, weight)
            leaving @ weight
            leaving.T @ entering

    return work, 6 * BATCH_TOKENS * sum(shape.numel() for shape in shapes)


def _end_to_end(bundle: Bundle, tokens: torch.Tensor, precision: Precision, rounds: int) -> tuple[str | float, ...]:
    """A step of logit distillation of the whole model, and its parts by themselves."""
    options = WholeModelOptions(precision=precision, batch_tokens=BATCH_TOKENS)
    untouched = embedding_names(bundle)
    student, parameters = trainable_bundle(bundle, lambda name: name not in untouched)
    last = len(tokens) - 1
    numbers, loss = torch.arange(BATCH_TOKENS // SEQ_LEN), VocabularyLoss()
    with StateStore(tokens[last:], bundle.shape.hidden_size, torch.float32, 1) as store:
        teacher = Teacher(bundle, tokens, options, last, store)
        problem = WholeModel(student, parameters, teacher, tokens, loss, options)
        taught = teacher.of(numbers)
        with torch.no_grad(), arithmetic(problem.device, precision):
            normed = normed_states(problem.runner, tokens[numbers])

        def vocabulary() -> None:
            with arithmetic(problem.device, precision):
                head_gradients(problem.runner, normed, taught, tokens[numbers], loss)

        step = _step(parameters, lambda: problem.gradients(numbers))
        update = _step(parameters, None)
        step()
        works = [step, vocabulary, update, lambda: teacher.of(numbers)]
        times = [statistics.median(taken) for taken in in_turn(works, rounds)]
    return precision, times[0], *(each / times[0] for each in times[1:])


def _step(parameters: dict[str, torch.nn.Parameter], gradients: Callable[[], float] | None) -> Callable[[], None]:
    """A step as the trainer takes it; without gradients its update alone, on the last ones."""
    values = list(parameters.values())
    optimizer = torch.optim.AdamW(values, lr=1e-9, betas=BETAS, fused=True)

    def work() -> None:
        if gradients is not None:
            optimizer.zero_grad(set_to_none=True)
            gradients()
        torch.nn.utils.clip_grad_norm_(values, 1.0)
        optimizer.step()

    return work


def _repeated(work: Callable[[], None]) -> None:
    for _ in range(STEPS):
        work()


def _memory(sequences: int) -> tuple[int, int, int]:
    told = subprocess.run([sys.executable, "-c", _WORK, str(sequences)], capture_output=True, text=True, check=True)
    return sequences, BATCH_TOKENS, int(told.stdout.splitlines()[-1]) // MIB


def memory_of(sequences: int) -> int:
    """Bytes on top of the loaded model at the peak of one step on so many sequences, ``BATCH_TOKENS`` at once."""
    bundle, tokens = bundled("float32", n_tokens=(sequences + 8) * SEQ_LEN // 2, seq_len=SEQ_LEN // 2)
    pruned = come.compress(bundle, tokens[:4], "shortgpt", target_layers=27)
    options: dict[str, Any] = {"steps": 1, "batch_tokens": sequences * SEQ_LEN // 2, "micro_tokens": BATCH_TOKENS}
    before, peak, _ = watched(lambda: come.recover(pruned.bundle, bundle, tokens, "logits", **options))
    return peak - before
