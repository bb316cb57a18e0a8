"""ShortGPT: remove the layers that change their input least (Men et al. 2024, arXiv 2403.03853)."""

from __future__ import annotations

import time
from typing import Literal

from pydantic import Field

from come.pruning.common import lowest
from come.pruning.forecast import Forecast, Known, doubts
from come.pruning.method import Task
from come.pruning.options import PassOptions, RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


class ShortGPTOptions(RemovalOptions, PassOptions):
    """How block influence is measured."""

    last_state: Literal["normed", "raw"] = Field(
        "normed", description="The last hidden state with or without the final norm."
    )


def forecast(known: Known, options: ShortGPTOptions) -> Forecast | None:
    """The layers of lowest block influence."""
    measured = known.measurement
    if measured is None:
        return None
    gone = sorted(lowest(measured.block_influence, known.surplus))
    return Forecast(removed=gone, doubt=doubts(options.last_state, measured))


@register(
    "shortgpt",
    title="ShortGPT",
    paper="Men et al. 2024, arXiv 2403.03853",
    summary="Remove the layers of lowest block influence, measured once.",
    kind="remove",
    options=ShortGPTOptions,
    needs=("forward",),
    cost="One pass over the calibration tokens.",
    forecast=forecast,
    portfolio={},
)
def shortgpt(task: Task, options: ShortGPTOptions) -> Result:
    """Remove the layers of lowest block influence, the first on ties."""
    if task.finished:
        return Result(task.current, task.plan)
    began = time.perf_counter()
    measurement = task.measure(last_state=options.last_state, similarity=(), batch_size=options.batch_size)
    influence = measurement.block_influence
    gone = lowest(influence, len(task.original.layers) - task.target_layers)
    return remove(task, options, gone, tuple(influence.tolist()), time.perf_counter() - began)
