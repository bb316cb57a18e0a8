"""SOLAR's depth up-scaling: the model's layers twice, one upon the other, without those about the seam.

Kim et al. 2023, "SOLAR 10.7B: Scaling Large Language Models with Simple yet Effective Depth Up-Scaling", arXiv
2312.15166: of two copies of L layers the last m of the lower and the first m of the upper go, so that 2 (L − m) are
left. Their 32 layers became 48 with m = 8, and were trained further.
"""

from __future__ import annotations

from come.growing.growth import GrownLayer, GrowTask, copied
from come.growing.registry import register
from come.options import Options


@register(
    "solar",
    title="SOLAR",
    paper="https://arxiv.org/abs/2312.15166",
    summary="The first layers of one copy, then the last of another; of an odd number the lower copy gives one more.",
    most=lambda layers: 2 * layers,
    places=False,
)
def solar(task: GrowTask, options: Options) -> list[GrownLayer]:
    """The grown model's layers."""
    layers = list(task.bundle.layers)
    upper = task.layers // 2
    lower = task.layers - upper
    below = [GrownLayer(layers[number], number) for number in range(lower)]
    twice = range(len(layers) - upper, lower)
    above = [
        GrownLayer(copied(layers[number]) if number in twice else layers[number], number, new=number in twice)
        for number in range(len(layers) - upper, len(layers))
    ]
    return below + above
