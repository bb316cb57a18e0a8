"""What runs are called where one is chosen from a list."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from app import example_runs
from come.models.catalogue import BUNDLED
from come.report import comparison
from come.report.sweeps import SweepState
from come.runs import Run


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of runs by their ids, each the run's own: Streamlit knows an option by its label alone.

    Those that several runs have are followed by the end of the id. A label should not change while its run is at
    work: a browser that still shows the old one sends it back, and it would be no option any more.
    """
    counts = Counter(labels.values())
    return {
        run: label if counts[label] == 1 else f"{label} · {run.rsplit('-', 1)[-1]}" for run, label in labels.items()
    }


def of_runs(found: Iterable[Run]) -> dict[str, str]:
    """What each run is called in a list of them, by its id; of two of one id, the first counts."""
    return distinct({run.id: label(run) for run in reversed(list(found))})


def label(run: Run) -> str:
    """A run's name with what tells it from others, the most telling first; the usual model is not named."""
    model = run.config.model
    of = [] if model == BUNDLED else [comparison.short(model)]
    return " · ".join([comparison.run_name(run), origin(run), *of])


def origin(run: Run) -> str:
    """Where a run comes from: when it was asked for, or that it is shipped."""
    return "example" if example_runs.is_example(run) else moment(run.state().created)


def moment(seconds: float) -> str:
    """A time of this machine's clock as a label tells it."""
    return time.strftime("%d %b %H:%M", time.localtime(seconds))


def of_sweep(sweep: SweepState) -> str:
    """What a sweep is called: by its name and its first run's time, which stay while it is at work."""
    return f"{sweep.name}, {moment(min(cell.state.created for cell in sweep.cells))}"
