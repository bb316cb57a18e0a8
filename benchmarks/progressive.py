"""The progressive loop, 30 to 21 layers, against its necessary work and against the straightforward way."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import torch

import come
from benchmarks.timing import bundled, forward, in_turn, markdown, ratio
from benchmarks.yardstick import everything, straightforward
from come.measurement.calibrate import batches, default_batch_size
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.plan.plan import Plan
from come.transforms.rebuild import apply_step

TARGET = 21
LONG = 8192  # tokens; the straightforward way is timed over fewer, because it is slow
STRAIGHT = (("float32", 512, 1024), ("bfloat16", 512, 1024), ("float32", 2048, 2048), ("bfloat16", 2048, 2048))
ROUNDS = 3


def table(rounds: int = ROUNDS) -> str:
    """The loop over its necessary work, then the straightforward way over the loop; a row a dtype and length."""
    columns = ("dtype", "seq_len", "tokens", "necessary, s", "loop / necessary", "passes=1 / necessary")
    near = markdown(columns, [_nearness(dtype, rounds) for dtype in ("float32", "bfloat16")])
    columns = ("dtype", "seq_len", "tokens", "straightforward / loop", "straightforward / passes=1")
    more = ("straightforward / (forward with head), a step", "same plan")
    return f"{near}\n\n{markdown((*columns, *more), [_factors(*case, rounds) for case in STRAIGHT])}"


def _nearness(dtype: str, rounds: int) -> tuple[str | int | float, ...]:
    bundle, tokens = bundled(dtype, n_tokens=LONG)
    models = models_of(bundle, come.compress(bundle, tokens, target_layers=TARGET).plan)
    works = [
        lambda: necessary(models, tokens),
        lambda: come.compress(bundle, tokens, target_layers=TARGET),
        lambda: come.compress(bundle, tokens, target_layers=TARGET, passes=1),
    ]
    least, loop, once = in_turn(works, rounds)
    return dtype, 512, LONG, statistics.median(least), ratio(loop, least), ratio(once, least)


def _factors(dtype: str, seq_len: int, n_tokens: int, rounds: int) -> tuple[str | int | float, ...]:
    bundle, tokens = bundled(dtype, n_tokens=n_tokens, seq_len=seq_len)
    size = default_batch_size(seq_len)
    plan = come.compress(bundle, tokens, target_layers=TARGET).plan
    same = "yes" if _told(straightforward(bundle, tokens, TARGET, size)) == _told(plan.steps) else "no"
    works = [
        lambda: come.compress(bundle, tokens, target_layers=TARGET),
        lambda: come.compress(bundle, tokens, target_layers=TARGET, passes=1),
        lambda: straightforward(bundle, tokens, TARGET, size),
        lambda: everything(bundle, tokens, size),
        lambda: forward(bundle, tokens, size, head=True),
    ]
    loop, once, plain, one_step, whole = in_turn(works, rounds)
    ratios = ratio(plain, loop), ratio(plain, once), ratio(one_step, whole)
    return dtype, seq_len, n_tokens, *ratios, same


def _told(steps: Sequence[Any]) -> list[Any]:
    """What steps decide: windows and kept units. Their ratios differ in the eighth digit, by the order of sums."""
    return [(step.window, step.kv_groups, step.channels) for step in steps]


def models_of(bundle: Bundle, plan: Plan) -> list[tuple[LayerRunner, int]]:
    """The model before each step, and the first layer that has to be run on it."""
    models, start = [], 0
    for step in plan.steps:
        models.append((LayerRunner(bundle), start))
        bundle, start = apply_step(bundle, step), step.window[0]  # type: ignore[union-attr]
    return models


@torch.inference_mode()
def necessary(models: list[tuple[LayerRunner, int]], tokens: torch.Tensor) -> None:
    """One full pass, then the layers from each window on: no statistics, no choice, nothing kept on the way."""
    for runner, start in models:
        for batch in batches(tokens):
            hidden_states = runner.enter(batch.tokens)  # what the values are does not change the time
            for layer in range(start, len(runner)):
                hidden_states = runner.run(layer, hidden_states)
