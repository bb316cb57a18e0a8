"""measure() against a plain forward of the trunk over the same tokens, in the same batches and dtype."""

from __future__ import annotations

import statistics

import come
from benchmarks.timing import bundled, forward, in_turn, markdown, ratio
from come.measurement.calibrate import default_batch_size

ROUNDS = 3


def table(rounds: int = ROUNDS) -> str:
    """One row a dtype."""
    columns = ("dtype", "trunk, s", "measure() / trunk", "with CKA / trunk")
    return markdown(columns, [_row(dtype, rounds) for dtype in ("float32", "bfloat16")])


def _row(dtype: str, rounds: int) -> tuple[str, float, float, float]:
    bundle, tokens = bundled(dtype)
    size = default_batch_size(tokens.shape[1])
    works = [
        lambda: forward(bundle, tokens, size),
        lambda: come.measure(bundle, tokens, similarity=("cosine", "angular")),
        lambda: come.measure(bundle, tokens, similarity=("cosine", "angular", "cka")),
    ]
    plain, measured, with_cka = in_turn(works, rounds)
    return dtype, statistics.median(plain), ratio(measured, plain), ratio(with_cka, plain)
