"""What a run will take, told before it starts: time, memory and disk, from a model's shape and a device's speed."""

from come.estimation.cost import Estimate, estimate
from come.estimation.device import Device, known_device, measure_device, remember
from come.estimation.latency import Latency, known_latency, latency
from come.estimation.published import PUBLISHED, published
from come.estimation.resolve import with_layers_for
from come.estimation.sweep import SweepEstimate, estimate_sweep
from come.estimation.targets import Answer, layers_for

__all__ = [
    "PUBLISHED",
    "Answer",
    "Device",
    "Estimate",
    "Latency",
    "SweepEstimate",
    "estimate",
    "estimate_sweep",
    "known_device",
    "known_latency",
    "latency",
    "layers_for",
    "measure_device",
    "published",
    "remember",
    "with_layers_for",
]
