"""A small request, the devices that it is estimated for, and what comes out."""

from __future__ import annotations

from typing import Any

from come.estimation.cost import estimate
from come.estimation.device import Device
from come.models import Facts
from come.pruning.forecast import Known
from come.pruning.registry import methods
from come.pruning.schedule import Calibration, Schedule
from come.request import RunConfig

GB = 10**9
DEVICE = Device("a machine", {"float32": 1e9, "bfloat16": 2e9}, 1e9, 8 * GB)
GPU = Device("a GPU", {"float32": 1e9}, 1e9, 8 * GB, kind="cuda", host_memory=16 * GB, disk_free=GB)


def request(**changes: Any) -> RunConfig:
    settings = {
        "method": "come",
        "n_tokens": 1024,
        "seq_len": 64,
        "evaluation_tokens": 256,
        "target_layers": 5,
        **changes,
    }
    return RunConfig.model_validate(settings)


def seconds(facts: Facts, device: Device = DEVICE, **changes: Any) -> float:
    return estimate(request(**changes), facts, device).seconds


def compressing(facts: Facts, **changes: Any) -> float:
    return estimate(request(**changes), facts, DEVICE).seconds_by_stage["compress"]


def scheduled(facts: Facts, name: str, options: dict[str, Any], stride: int = 1) -> Schedule:
    method = methods()[name]
    return method.schedule(Known(facts, 5), method.parse(options), Calibration(65536, 512, stride))
