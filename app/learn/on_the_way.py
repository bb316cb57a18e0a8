"""What the shipped runs came to on their way, where a run itself keeps the numbers of its end alone.

Measured by scripts/lesson_runs.py, on the runs' own held-out tokens.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from come.runs import Run

FILE = Path(__file__).resolve().parent / "values" / "on_the_way.json"

Measured = tuple[float, float]  # perplexity, standard error


def merges(run: Run) -> list[Measured]:
    """The perplexity of the original and after each merge of a run; empty where that was not measured."""
    return [_pair(each) for each in _read("loop", run).get("merges", [])]


def first_way(run: Run) -> Measured | None:
    """What a run with recovery had come to after the first of its ways; None where that was not measured."""
    found = _read("recovery", run).get("pruned")
    return _pair(found) if found else None


def _pair(metrics: dict[str, float]) -> Measured:
    return metrics["perplexity"], metrics["perplexity_stderr"]


def _read(name: str, run: Run) -> dict[str, Any]:
    found: dict[str, Any] = _whole().get(name, {})
    return found if found.get("run") == run.id else {}


@lru_cache(maxsize=1)
def _whole() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(FILE.read_text("utf-8")) if FILE.is_file() else {}
    return found
