"""How long runs will still take, by what was foreseen of them and what they told since."""

from __future__ import annotations

import time
from collections.abc import Sequence

import streamlit as st

from come.errors import ComeError
from come.request import RunConfig
from come.runs import Run, foreseen, list_runs, runs_of
from come.runs.ahead import Outlook, outlook, together

_BARS = 100  # of a visit, that are remembered


def of_runs(runs: Sequence[Run]) -> dict[str, Outlook]:
    """How far each run is, by its id; those that cannot be read are left out."""
    now, found, readable = time.time(), dict[str, Outlook](), list[tuple[Run, RunConfig]]()
    for run in sorted(runs, key=lambda run: run.written_state().created):
        try:
            readable.append((run, run.config))
        except ComeError:
            continue
    sweeps: dict[str, list[tuple[Run, RunConfig]]] = {}
    for run, config in readable:
        sweeps.setdefault(config.sweep or run.id, []).append((run, config))
    for cells in sweeps.values():
        expected = _foreseen(tuple(config.model_dump_json() for _, config in cells))
        taken = usual = 0.0
        for (run, config), stages in zip(cells, expected, strict=True):
            state, pace = run.state(), taken / usual if usual and taken else 1.0
            events = run.events() if state.status == "running" else ()
            seen = found[run.id] = outlook(config, state, events, stages, now, pace)
            if state.status == "done":  # those after it are as slow
                taken, usual = taken + seen.elapsed, usual + seen.foreseen
    return found


def of_all(runs: Sequence[Run]) -> Outlook:
    """How far several runs are that are done one after the other."""
    each = of_runs(runs)
    known = [run for run in runs if run.id in each]
    return together([each[run.id] for run in known], [run.state().status == "queued" for run in known])


def never_back(bar: str, share: float) -> float:
    """What a bar of that name shows: it waits rather than goes back, when more is left than was thought."""
    seen: dict[str, float] = st.session_state.setdefault("_shares", {})
    if bar not in seen and len(seen) >= _BARS:
        seen.clear()
    seen[bar] = max(share, seen.get(bar, 0.0)) if share else 0.0  # it waits anew
    return seen[bar]


def started_together(run: Run) -> list[Run]:
    """The runs that were asked for at once with this one, itself among them, in the order in which they are done."""
    sweep = run.config.sweep
    if not sweep:
        return [run]
    return sorted(runs_of(sweep, run.path.parent), key=lambda other: other.written_state().created) or [run]


def in_line() -> list[Run]:
    """The runs that are at work or wait, those at work first, then by age: about the order in which they come."""
    active = [(run, state) for run in list_runs() if (state := run.state()).active]
    return [run for run, _ in sorted(active, key=lambda each: (each[1].status == "queued", each[1].created))]


@st.cache_data(ttl=15, max_entries=64, show_spinner=False)
def _foreseen(requests: tuple[str, ...]) -> list[dict[str, float]]:
    return foreseen.stages_of([RunConfig.model_validate_json(request) for request in requests])
