"""What runs will take, with what earlier runs tell of their model."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from come.errors import ComeError
from come.estimation import cost, sweep
from come.estimation.device import Device, known_device
from come.models import Facts, describe
from come.models.facts import BYTES
from come.request import RunConfig, checked
from come.runs.analyses import newest_analysis


def estimate(
    config: RunConfig,
    facts: Facts | None = None,
    device: Device | None = None,
    *,
    runs: Path | None = None,
    **others: Any,
) -> cost.Estimate:
    """Time, memory and disk of a run; no weights are loaded and nothing is started.

    Args:
        config: the run.
        facts: the model's (``come.describe``), where they are at hand; then earlier analyses are not looked at.
        device: what it will run on; this machine's by default.
        runs: the folder of runs, for the room on its disk and for analyses of the model.
        **others: as for ``come.estimation.cost.estimate``.

    Raises:
        ComeError: the run could not succeed, or the device's speed in its dtype is not known.
    """
    if facts is None and others.get("measurement") is None:
        others["measurement"] = newest_analysis(config.model, runs)
    return cost.estimate(config, facts, device, runs=runs, **others)


def estimate_by_known_speed(config: RunConfig, runs: Path | None = None) -> cost.Estimate:
    """The same by this machine's speed as it was last measured, else by a usual one's: nothing is measured now.

    Raises:
        ComeError: the run could not succeed.
    """
    config, _ = checked(config)
    facts = describe(config.model)
    dtype = config.dtype if config.dtype != "auto" else facts.dtype if facts.dtype in BYTES else "float32"
    device = known_device(dtype, config.device) or usual_device(dtype)
    return cost.estimate(config, facts, device, measurement=newest_analysis(config.model, runs), runs=runs)


def usual_device(dtype: str) -> Device:
    """Two cores of a server, where nothing is measured yet: an Intel Xeon's medians, most taken beside other work."""
    memory = psutil.virtual_memory().available
    return Device("two processor cores", {dtype: 1.3e11}, 5.5e9, memory, attention_flops={dtype: 5e10})


def estimate_sweep(cells: Sequence[RunConfig], runs: Path | None = None) -> sweep.SweepEstimate:
    """Time of a sweep; nothing is started.

    Raises:
        ComeError: no cell could succeed.
    """
    return sweep.estimate_sweep(cells, runs, newest_analysis(cells[0].model, runs))


def stages_of(requests: Sequence[RunConfig], runs: Path | None = None) -> list[dict[str, float]]:
    """Seconds by stage of requests that one process does in turn, by this machine's remembered speed.

    They are empty where that is not known, or a request could not succeed.
    """
    found: list[dict[str, float]] = []
    for asked in requests:
        with suppress(ComeError):
            facts = describe(asked.model)
            dtype = asked.dtype if asked.dtype != "auto" else facts.dtype if facts.dtype in BYTES else "float32"
            if (device := known_device(dtype, asked.device)) is not None:
                analysis = newest_analysis(asked.model, runs)
                found.append(cost.estimate(asked, facts, device, measurement=analysis).seconds_by_stage)
                continue
        found.append({})
    return sweep.less_shared(list(zip(requests, found, strict=True)))
