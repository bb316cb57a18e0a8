"""What runs will take, with what earlier runs tell of their model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from come.estimation import cost, sweep
from come.estimation.device import Device
from come.models import Facts
from come.request import RunConfig
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


def estimate_sweep(cells: Sequence[RunConfig], runs: Path | None = None) -> sweep.SweepEstimate:
    """Time of a sweep; nothing is started.

    Raises:
        ComeError: no cell could succeed.
    """
    return sweep.estimate_sweep(cells, runs, newest_analysis(cells[0].model, runs))
