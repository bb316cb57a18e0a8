"""What runs are called where one is chosen from a list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def distinct(labels: Mapping[str, str]) -> dict[str, str]:
    """Labels of runs by their ids, each the run's own: Streamlit knows an option by its label alone.

    Those that several runs have are followed by the end of the id. A label should not change while its run is at
    work: a browser that still shows the old one sends it back, and it would be no option any more.
    """
    counts = Counter(labels.values())
    return {
        run: label if counts[label] == 1 else f"{label} · {run.rsplit('-', 1)[-1]}" for run, label in labels.items()
    }
