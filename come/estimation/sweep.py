"""The estimate of a sweep: what its cells take, less what they share."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.estimation.cost import estimate
from come.measurement.measurement import Measurement
from come.pruning.registry import method
from come.request import RunConfig

ONCE = ("start", "load")  # a process
ONCE_A_SEED = ("text", "evaluate original")
ONCE_A_MODEL = ("accuracy original",)


@dataclass(frozen=True)
class SweepEstimate:
    """What a sweep will take.

    Attributes:
        seconds: all of it.
        seconds_by_part: by method, and "shared".
        warnings: a sentence each: cells that cannot run, rooms that do not suffice.
        assumptions: what the numbers rest on.
    """

    seconds: float
    seconds_by_part: dict[str, float]
    warnings: tuple[str, ...]
    assumptions: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON takes it."""
        return asdict(self)


def estimate_sweep(
    cells: Sequence[RunConfig], runs: Path | None = None, measurement: Measurement | None = None
) -> SweepEstimate:
    """Time of a sweep; nothing is started.

    Args:
        cells: the requests of its runs (``come.runs.Sweep.cells``).
        runs: the folder of runs.
        measurement: an analysis of their model.

    Raises:
        ComeError: no cell could succeed.
    """
    shared: dict[tuple[Any, ...], float] = {}
    chains: dict[str, float] = {}
    parts: dict[str, float] = {"shared": 0.0}
    warnings: dict[str, None] = {}
    assumptions: dict[str, None] = {}
    refusals: list[ComeError] = []
    for cell in cells:
        try:
            expected = estimate(cell, runs=runs, measurement=measurement)
        except ComeError as error:
            refusals.append(error)
            warnings[f"{cell.method}: {error}"] = None
            continue
        warnings |= dict.fromkeys(expected.warnings)
        assumptions |= dict.fromkeys(expected.assumptions)
        for stage, seconds in expected.seconds_by_stage.items():
            if stage in (*ONCE, *ONCE_A_MODEL):
                shared[(stage,)] = seconds
            elif stage in ONCE_A_SEED:
                shared[stage, cell.seed] = seconds
            elif stage == "compress" and method(cell.method).goes_on(cell.options):
                key = json.dumps([cell.method, cell.options, cell.seed])
                chains[key] = max(chains.get(key, 0.0), seconds)
            else:
                parts[cell.method] = parts.get(cell.method, 0.0) + seconds
    if len(refusals) == len(cells):
        raise refusals[0]
    for key, seconds in chains.items():
        name = json.loads(key)[0]
        parts[name] = parts.get(name, 0.0) + seconds
    parts["shared"] = sum(shared.values())
    return SweepEstimate(sum(parts.values()), parts, tuple(warnings), tuple(assumptions))
