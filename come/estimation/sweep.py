"""The estimate of a sweep: what its cells take, less what they share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.estimation.cost import estimate
from come.measurement.measurement import Measurement
from come.pruning.registry import method
from come.request import RunConfig

ONCE = ("start", "convert", "load")  # a process
ONCE_A_SEED = ("text", "evaluate original")
ONCE_A_MODEL = ("accuracy original", "probe original")


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
    possible: list[tuple[RunConfig, dict[str, float]]] = []
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
        possible.append((cell, expected.seconds_by_stage))
    if len(refusals) == len(cells):
        raise refusals[0]
    for (cell, _), stages in zip(possible, less_shared(possible), strict=True):
        for stage, seconds in stages.items():
            part = "shared" if stage in (*ONCE, *ONCE_A_SEED, *ONCE_A_MODEL) else cell.method
            parts[part] = parts.get(part, 0.0) + seconds
    return SweepEstimate(sum(parts.values()), parts, tuple(warnings), tuple(assumptions))


def less_shared(cells: Sequence[tuple[RunConfig, Mapping[str, float]]]) -> list[dict[str, float]]:
    """What each of the cells that one process does in turn takes by stage, less what those before it leave it.

    Args:
        cells: the requests, each with what it takes alone, by stage.
    """
    known: dict[str, float] = {}  # seconds of work that is done already
    found = []
    for cell, stages in cells:
        left = {}
        for stage, seconds in stages.items():
            if stage in (*ONCE, *ONCE_A_MODEL):
                key = stage
            elif stage in ONCE_A_SEED:
                key = json.dumps([stage, cell.seed])
            elif stage == "compress" and method(cell.method).goes_on(cell.options):
                key = json.dumps([cell.method, cell.options, cell.seed])
            else:
                key = ""
            left[stage] = max(seconds - known.get(key, 0.0), 0.0) if key else seconds
            if key:
                known[key] = max(known.get(key, 0.0), seconds)
        found.append(left)
    return found
