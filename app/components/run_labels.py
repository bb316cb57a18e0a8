"""What runs are called where one is chosen from a list."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping

from app import example_runs
from come.report import comparison
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
    """A run's name with what tells it from others."""
    config = run.config
    model = config.model.rstrip("/").rsplit("/", 1)[-1]
    if example_runs.is_example(run):
        return f"{comparison.run_name(run)} · {model} · shipped example"
    when = time.strftime("%d %b %H:%M", time.localtime(run.state().created))
    return f"{comparison.run_name(run)} · {model} · {when}"
