"""Sweeps as one thing each: which cells they have, how far they are, what is left, and their means over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from come.errors import ComeError
from come.report import comparison
from come.runs import Run
from come.runs.state import State

ENDED_BADLY = ("failed", "cancelled", "interrupted", "unreadable")


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        layers: left, or asked for where it is not done yet.
        seconds: that it took; None before it has ended.
    """

    run: Run
    series: str
    layers: int | None
    seed: int
    state: State
    perplexity: float | None
    seconds: float | None


@dataclass(frozen=True)
class SweepState:
    """A sweep as it stands now.

    Attributes:
        id: as its runs name it. name: what people call it.
        cells: in the order in which they were asked for.
    """

    id: str
    name: str
    cells: tuple[Cell, ...]

    @property
    def done(self) -> list[Cell]:
        """Those that have a result."""
        return [cell for cell in self.cells if cell.state.status == "done"]

    @property
    def active(self) -> list[Cell]:
        """Those at work or waiting."""
        return [cell for cell in self.cells if cell.state.active]

    @property
    def stopped(self) -> list[Cell]:
        """Those that ended without a result, and can go on."""
        return [cell for cell in self.cells if cell.state.status in ("cancelled", "interrupted", "failed")]

    @property
    def status(self) -> str:
        """One word for all: that of a run, where its cells are not told apart."""
        kinds = {cell.state.status for cell in self.cells}
        for status in ("running", "queued", "interrupted", "cancelled", "failed", "unreadable"):
            if status in kinds:
                return status
        return "done"


def sweeps(runs: Sequence[Run]) -> list[SweepState]:
    """The sweeps of runs, newest first; runs that cannot be read belong to none.

    Args:
        runs: newest first.
    """
    by_sweep: dict[str, list[Run]] = {}
    for run in runs:
        with suppress(ComeError):
            if name := run.config.sweep:
                by_sweep.setdefault(name, []).append(run)
    return [_sweep(name, found[::-1]) for name, found in by_sweep.items() if len(found) > 1]


def rows(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Cells as lines of a table."""
    return [
        {
            "Method": cell.series,
            "Layers": cell.layers,
            "Seed": cell.seed,
            "State": cell.state.status,
            "Perplexity": cell.perplexity,
            "Time (s)": cell.seconds,
        }
        for cell in cells
    ]


def means(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """A line a method and size: the mean perplexity over its seeds and their spread, one standard deviation."""
    places: dict[tuple[str, int | None], list[float]] = {}
    for cell in cells:
        if cell.perplexity is not None:
            places.setdefault((cell.series, cell.layers), []).append(cell.perplexity)
    return [
        {
            "Method": series,
            "Layers": layers,
            "Seeds": len(held),
            "Perplexity, mean": fmean(held),
            "Spread": stdev(held) if len(held) > 1 else None,
        }
        for (series, layers), held in sorted(places.items(), key=lambda item: (-(item[0][1] or 0), fmean(item[1])))
    ]


def _sweep(name: str, runs: Sequence[Run]) -> SweepState:
    cells = [cell for run in runs if (cell := _cell(run)) is not None]
    called = next((run.config.name for run in runs if run.config.name), "").rpartition(" · ")
    return SweepState(name, called[0] or called[2] or _words(cells), tuple(cells))


def _cell(run: Run) -> Cell | None:
    try:
        config = run.config
    except ComeError:  # damaged between two looks
        return None
    state, after = run.state(), run.results().get("pruned") or {}
    taken = state.finished - state.started if state.finished and state.started else None
    layers = after.get("layers") or config.target_layers
    ended = taken if not state.active else None
    return Cell(run, comparison.series(config), layers, config.seed, state, after.get("perplexity"), ended)


def _words(cells: Sequence[Cell]) -> str:
    """What a sweep compares: "CoMe and ShortGPT at 27 and 24 layers, 3 seeds"."""
    methods = list(dict.fromkeys(cell.series for cell in cells))
    sizes = sorted({cell.layers for cell in cells if cell.layers is not None}, reverse=True)
    seeds = len({cell.seed for cell in cells})
    told = _some(methods) + (f" at {_some([str(size) for size in sizes])} layers" if sizes else "")
    return f"{told}, {seeds} seeds" if seeds > 1 else told


def _some(names: Sequence[str], most: int = 4) -> str:
    if len(names) > most:
        return f"{', '.join(names[: most - 1])} and {len(names) - most + 1} more"
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)
