"""The progressive loop, 30 to 21 layers, against its necessary work and against the straightforward way."""

from __future__ import annotations

import statistics

import torch

import come
from benchmarks.timing import bundled, forward, in_turn, markdown, ratio
from benchmarks.yardstick import everything, straightforward
from come.measure.runner import LayerRunner
from come.measure.walk import batches, default_batch_size
from come.merge import Plan, replay
from come.models import Bundle

TARGET = 21
N_TOKENS = 2048  # the cost is linear in tokens (see scaling), and the straightforward way is slow
ROUNDS = 2
CASES = [("float32", 512), ("bfloat16", 512), ("float32", 2048)]


def table(rounds: int = ROUNDS) -> str:
    """One row a dtype and sequence length."""
    columns = ("dtype", "seq_len", "necessary, s", "loop / necessary", "straightforward / loop")
    more = ("straightforward / passes=1", "straightforward / (forward with head), a step", "same plan")
    return markdown((*columns, *more), [_row(*case, rounds) for case in CASES])


def _row(dtype: str, seq_len: int, rounds: int) -> tuple[str | int | float, ...]:
    bundle, tokens = bundled(dtype, n_tokens=N_TOKENS, seq_len=seq_len)
    size = default_batch_size(seq_len)
    plan = come.compress(bundle, tokens, target_layers=TARGET).plan
    same = "yes" if straightforward(bundle, tokens, TARGET, size) == plan.steps else "no"
    works = [
        lambda: necessary(bundle, tokens, plan),
        lambda: come.compress(bundle, tokens, target_layers=TARGET),
        lambda: come.compress(bundle, tokens, target_layers=TARGET, passes=1),
        lambda: straightforward(bundle, tokens, TARGET, size),
        lambda: everything(bundle, tokens, size),
        lambda: forward(bundle, tokens, size, head=True),
    ]
    least, loop, once, plain, one_step, whole = in_turn(works, rounds)
    ratios = (ratio(loop, least), ratio(plain, loop), ratio(plain, once), ratio(one_step, whole))
    return dtype, seq_len, statistics.median(least), *ratios, same


@torch.inference_mode()
def necessary(bundle: Bundle, tokens: torch.Tensor, plan: Plan) -> None:
    """One full pass, then the layers from each window on: no statistics, no choice, nothing kept on the way."""
    start = 0
    for number, step in enumerate(plan.steps):
        model = replay(bundle, plan.model_copy(update={"steps": plan.steps[:number]})) if number else bundle
        runner = LayerRunner(model)
        for batch in batches(tokens):
            hidden_states = runner.enter(batch.tokens)  # what the values are does not change the time
            for layer in range(start, len(runner)):
                hidden_states = runner.run(layer, hidden_states)
        start = step.window[0]  # type: ignore[union-attr]
