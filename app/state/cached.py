"""What files and sources hold, read once while they do not change: measurements, plans, a model's facts."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

import come.models
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.plan.plan import Plan
from come.pruning.windows import WindowCost
from come.runs import Run
from come.runs import layers_needed as kept_needed
from come.runs import window_costs as kept_costs
from come.runs.layers_needed import Search
from come.source_fingerprint import source_fingerprint


def facts(source: str) -> Facts:
    """A model's facts, read without its weights.

    Raises:
        ComeError: the model is unknown or cannot be read.
    """
    found = _facts(source, source_fingerprint(source))
    if isinstance(found, Facts):
        return found
    raise ComeError(*found)


def measurement(run: Run) -> Measurement:
    """What a finished analysis measured."""
    path = run.path / "analysis.safetensors"
    return _measurement(str(path), path.stat().st_mtime_ns)


def window_costs(run: Run) -> tuple[WindowCost, ...]:
    """What merging windows of an analysed model costs, as far as that is measured."""
    try:
        known = (run.path / kept_costs.FILE).stat()
    except OSError:
        return ()
    return _window_costs(str(run.path), known.st_mtime_ns, known.st_size)


def layers_needed(run: Run, layers: int) -> dict[float, Search]:
    """How few layers sequences need of an analysed model of so many, by tolerance, as far as that is known.

    Raises:
        ComeError: the document is damaged.
    """
    try:
        known = (run.path / kept_needed.FILE).stat()
    except OSError:
        return {}
    return _layers_needed(str(run.path), layers, known.st_mtime_ns, known.st_size)


def plan_stamp(run: Run) -> tuple[str, int]:
    """Where a run's plan lies and when it was written last: what tells it from another, in a cache's key.

    Raises:
        ComeError: there is none any more.
    """
    path = run.path / "plan.json"
    try:
        return str(path), path.stat().st_mtime_ns
    except OSError as error:
        raise ComeError("The run has no plan any more.", "Choose another run.") from error


# What tells a newer file from an older one is part of a cache's key only.


@st.cache_data(ttl=60, max_entries=64, show_spinner=False)
def _facts(source: str, fingerprint: str) -> Facts | tuple[str, str]:
    """The facts; or why there are none, so that a hub out of reach is not asked anew by every click."""
    del fingerprint
    try:
        return come.models.describe(source)
    except ComeError as error:
        return error.what, error.hint


@st.cache_resource(max_entries=8, show_spinner=False)
def _measurement(path: str, mtime_ns: int) -> Measurement:
    del mtime_ns
    return Measurement.load(path)


@st.cache_resource(max_entries=16, show_spinner=False)
def _window_costs(path: str, mtime_ns: int, size: int) -> tuple[WindowCost, ...]:
    del mtime_ns, size
    return kept_costs.read(Run(Path(path)))


@st.cache_resource(max_entries=16, show_spinner=False)
def _layers_needed(path: str, layers: int, mtime_ns: int, size: int) -> dict[float, Search]:
    del mtime_ns, size
    return kept_needed.read(Run(Path(path)), layers)


@st.cache_resource(max_entries=16, show_spinner=False)
def plan_of_stamp(path: str, mtime_ns: int) -> Plan:
    """The plan that a stamp is of."""
    del mtime_ns
    return Plan.read(Path(path))
