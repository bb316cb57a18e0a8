"""The block influence of each layer of a model as it is, from hidden states that may be kept already."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.statistics import cosine
from come.measurement.suffix import each_border


@torch.inference_mode()
def block_influence(
    runner: LayerRunner,
    tokens: Tensor,
    borders: HiddenStateCache,
    *,
    last_state: Literal["normed", "raw"],
    batch_size: int | None = None,
    on_progress: OnProgress = None,
) -> Tensor:
    """The block influence of every layer, (layers,), float32; only layers above the last change are run.

    Args:
        runner: the model.
        tokens: int64 (sequences, tokens).
        borders: hidden states that enter its layers; what is missing is run, and kept there.
        last_state: whether H^(L) is taken after the final norm ("normed") or before it ("raw").
        batch_size: sequences at a time; about 2,048 tokens by default.
        on_progress: told of each layer.

    Raises:
        ComeError: the model overflows.
    """
    sums = torch.zeros(len(runner), dtype=torch.float64)
    todo = list(batches(tokens, batch_size))
    for batch in todo:
        below: Tensor | None = None
        for border, states in each_border(runner, batch, borders):
            if below is not None:
                above = runner.norm(states) if border == len(runner) and last_state == "normed" else states
                sums[border - 1] += float((1 - cosine(below.to(above.device), above)).sum(dtype=torch.float64))
            below = states
            done = batch.index * len(runner) + border
            emit(on_progress, "compress", done, len(todo) * len(runner), f"Running layer {border} of {len(runner)}")
    found = (sums / tokens.numel()).float()
    check_finite(found, runner)
    return found
