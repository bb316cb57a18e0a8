"""The block of layers that turns hidden states least is removed (Gromov et al. 2024, arXiv 2403.17887)."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import each_border
from come.models import Bundle
from come.pruning.forecast import Forecast, Known, doubts
from come.pruning.method import Task
from come.pruning.options import PassOptions, RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


class DeeperOptions(RemovalOptions, PassOptions):
    """What the angular distance is taken of."""

    distance_tokens: Literal["last", "all"] = Field(
        "last", description="The angle of the last token of each sequence, as in the paper, or of all tokens."
    )
    last_state: Literal["normed", "raw"] = Field(
        "normed", description="The last hidden state with or without the final norm."
    )

    def gaps(self, removed: int) -> int:
        """A block leaves one."""
        return 1


def forecast(known: Known, options: DeeperOptions) -> Forecast | None:
    """The block of lowest angular distance over all tokens, negative cosines taken as 0."""
    if not known.surplus:
        return Forecast()
    if known.measurement is None or (angular := known.measurement.similarity.get("angular")) is None:
        return None
    first = int(angular.diagonal(known.surplus).argmin())
    which = "over the last token of each sequence, this over all tokens"
    rule = which if options.distance_tokens == "last" else "with negative cosines as they are, this as 0"
    doubt = doubts(options.last_state, known.measurement, f"the run takes the distance {rule}")
    return Forecast(removed=list(range(first, first + known.surplus)), doubt=doubt)


@register(
    "deeper",
    title="Deeper layers",
    paper="Gromov et al. 2024, arXiv 2403.17887",
    summary="Remove the contiguous block of layers whose input and output lie at the lowest angular distance.",
    kind="remove",
    options=DeeperOptions,
    needs=("forward",),
    cost="One pass over the calibration tokens.",
    forecast=forecast,
    portfolio={},
)
def deeper(task: Task, options: DeeperOptions) -> Result:
    """Remove the block of lowest ``angular_distances``, the first on ties."""
    if task.finished:
        return Result(task.current, task.plan)
    block = len(task.original.layers) - task.target_layers
    began = time.perf_counter()
    distances = angular_distances(task.original, task.tokens, block, options, task.on_progress)
    first = int(distances.argmin())
    return remove(task, options, range(first, first + block), seconds=time.perf_counter() - began)


@torch.inference_mode()
def angular_distances(
    bundle: Bundle, tokens: Tensor, block: int, options: DeeperOptions, on_progress: OnProgress = None
) -> Tensor:
    """The mean of arccos(cos(H^(l), H^(l + block))) / pi for every l, (layers - block + 1,), float32, in [0, 1].

    Unlike SBI, negative cosines are taken as they are.

    Raises:
        ComeError: hidden states or their distances are not finite.
    """
    runner, todo = LayerRunner(bundle), list(batches(tokens, options.batch_size))
    layers = len(runner)
    sums = torch.zeros(layers - block + 1)
    for batch in todo:
        recent: deque[Tensor] = deque(maxlen=block + 1)
        for border, states in each_border(runner, batch):
            seen = runner.norm(states) if border == layers and options.last_state == "normed" else states
            recent.append((seen[:, -1:] if options.distance_tokens == "last" else seen).float())
            if border >= block:
                below, above = recent[0], recent[-1]
                cosines = torch.nn.functional.cosine_similarity(below, above.to(below.device), dim=-1).clamp_(-1, 1)
                sums[border - block] += float(torch.arccos(cosines).sum()) / math.pi
            done = round(1000 * (batch.index * layers + border) / (len(todo) * layers))
            emit(on_progress, "compress", done, 1000, f"Running layer {border} of {layers}")
    check_finite(sums, runner)
    return sums / (tokens.numel() if options.distance_tokens == "all" else len(tokens))
