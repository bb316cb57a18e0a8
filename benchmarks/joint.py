"""The whole of CoMe-Joint, its search's scoring and the sweep included, in plain passes of the trunk."""

from __future__ import annotations

import statistics

import come
from benchmarks.timing import bundled, forward, in_turn, markdown, ratio
from come.estimation.cost import estimate
from come.estimation.device import measure_device
from come.measurement.calibrate import default_batch_size
from come.request import RunConfig

TARGET, ROUNDS = 24, 3


def table(rounds: int = ROUNDS) -> str:
    """One row a dtype: a pass, the method, how many passes that makes, and what the cost model foresees."""
    columns = ("dtype", "a pass, s", "come-joint, s", "passes", "foreseen, s", "rounds")
    return markdown(columns, [_row(dtype, rounds) for dtype in ("bfloat16", "float32")])


def _row(dtype: str, rounds: int) -> tuple[str | int | float, ...]:
    bundle, tokens = bundled(dtype)
    size = default_batch_size(tokens.shape[1])
    works = [
        lambda: forward(bundle, tokens, size),
        lambda: come.compress(bundle, tokens, "come-joint", target_layers=TARGET),
    ]
    forward(bundle, tokens, size)
    passes, wholes = in_turn(works, rounds)
    config = RunConfig.model_validate(
        {"method": "come-joint", "target_layers": TARGET, "n_tokens": tokens.numel(), "dtype": dtype}
    )
    foreseen = estimate(config, device=measure_device(dtype)).seconds_by_stage["compress"]
    return dtype, statistics.median(passes), statistics.median(wholes), ratio(wholes, passes), foreseen, rounds
