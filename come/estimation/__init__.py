"""What a run will take, told before it starts: time, memory and disk, from a model's shape and a device's speed."""

from come.estimation.cost import Estimate, estimate
from come.estimation.device import Device, known_device, measure_device, remember
from come.estimation.published import PUBLISHED, published
from come.estimation.sweep import SweepEstimate, estimate_sweep

__all__ = [
    "PUBLISHED",
    "Device",
    "Estimate",
    "SweepEstimate",
    "estimate",
    "estimate_sweep",
    "known_device",
    "measure_device",
    "published",
    "remember",
]
