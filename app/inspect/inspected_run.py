"""What the inspect page looks at: a run with its plan, its units followed, and what was measured of its model."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import streamlit as st

import come.runs
from app import example_runs
from app.components import poll
from app.state import cached, request, session, widget_state
from app.state.choice import Choice
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.plan.plan import Plan
from come.plan.provenance import Provenance, follow, units_of
from come.plan.steps import Concatenate, Part
from come.pruning.registry import concatenates
from come.request import RunConfig
from come.runs import Run
from come.runs.documents import PLAN

_RUNS_LOOKED_AT = 200
_MISSING = "_missing_run"
_FOLLOWED = "_opened-run-inspected"


@dataclass(frozen=True)
class Inspected:
    """A run that is looked at: its request, its plan, and both parts followed through it."""

    run: Run
    config: RunConfig
    plan: Plan
    ffn: Provenance
    attention: Provenance

    def origins(self, part: Part) -> Provenance:
        """One of the parts."""
        return self.ffn if part == "ffn" else self.attention

    @property
    def counted(self) -> bool:
        """Whether it is known how many units a layer has; else it is drawn as whole layers."""
        return self.ffn.units > 1


def runs() -> list[Run]:
    """The runs that have a plan, one's own first and newest first, then the shipped ones.

    One whose plan cannot be read is among them where a link asks for it: the page then says what is wrong.
    """
    asked = st.query_params.get("run")
    found = [*come.runs.list_runs()[:_RUNS_LOOKED_AT], *example_runs.runs()]
    return [run for run in found if _has_plan(run, reads=run.id != asked)]


def first_shown(found: list[Run]) -> Run:
    """The newest run of CoMe, one's own before the shipped ones; the first of all if there is none."""
    return next((run for run in found if concatenates(run.config.method)), found[0])


def shown_at_first(found: list[Run]) -> Run:
    """What the page opens: the run that was looked at last, else one's own newest of CoMe, else of the shipped ones
    that which the visitor's plan is like, or the mildest.
    """
    by_id = {run.id: run for run in reversed(found)}
    if (last := session.last_opened()) in by_id:
        return by_id[str(last)]
    first = first_shown(found)
    if not example_runs.is_example(first):
        return first
    mildest = sorted((run for run in found if concatenates(run.config.method)), key=_layers, reverse=True)
    draft = session.draft()
    planned = [run for run in mildest if _layers(run) == draft.target_layers]
    alike = planned or [run for run in mildest if _layers(run) == _layers(mildest[0])] or [first]
    return next((run for run in alike if run.config.method == draft.method), alike[0])


def _layers(run: Run) -> int:
    return run.config.target_layers or 0


def _turn_to_opened() -> None:
    """A run that was opened elsewhere since the page was left is what it shows next, unless its link names one."""
    last = session.last_opened()
    if last and session.value(_FOLLOWED) != last:
        session.put(_FOLLOWED, last)
        if "run" not in st.query_params:
            widget_state.forget("run")


def shown() -> Run | None:
    """The run that the page shows, or will show; None where there is none."""
    found = runs()
    if not found:
        return None
    _turn_to_opened()
    wanted = widget_state.held_among("run", [run.id for run in found], shown_at_first(found).id)
    return next(run for run in found if run.id == wanted)


def missing(asked: str | None, shown: str, ids: list[str]) -> str:
    """The run that a link asked for in vain, while the one shown in its place is; else ""."""
    if asked is not None and asked not in ids:
        st.session_state[_MISSING] = asked, shown
    wanted, instead = st.session_state.get(_MISSING, ("", ""))
    return str(wanted) if instead == shown else ""


def inspect(run: Run) -> Inspected:
    """A run with its plan followed.

    Raises:
        ComeError: the plan cannot be read, or does not fit its model.
    """
    config, stamp = run.config, cached.plan_stamp(run)
    plan = cached.plan_of_stamp(*stamp)
    # Merges say how many units a layer has; else the model does, which may be gone or far away.
    told = any(isinstance(step, Concatenate) for step in plan.steps)
    facts = None if told else _facts(config.model)
    parts: tuple[Part, Part] = ("ffn", "attention")
    units = {"ffn": facts.intermediate_size, "attention": facts.num_key_value_heads} if facts is not None else {}
    ffn, attention = (_followed(*stamp, part, units_of(plan, part, units.get(part))) for part in parts)
    return Inspected(run, config, plan, ffn, attention)


def growth(run: Run) -> poll.Look:
    """Says when the plan of a run that is at work has a further step, or the run has ended."""
    seen, looks = cached.plan_stamp(run), 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks % poll.LOOK_AT_RUNS:
            return False
        with suppress(ComeError):
            return cached.plan_stamp(run) != seen or not run.state().active
        return True  # it was deleted

    return look


def others(chosen: Inspected, found: list[Run]) -> list[Run]:
    """The other runs of the same model."""
    return [run for run in found if run.path != chosen.run.path and run.config.model == chosen.config.model]


def followed_like(run: Run, chosen: Provenance) -> Provenance:
    """Another run's units of the same part.

    Raises:
        ComeError: its plan cannot be read, or is of a model of another shape.
    """
    origins = _followed(*cached.plan_stamp(run), chosen.part, chosen.units)
    if origins.layers != chosen.layers:
        raise ComeError("The two runs are of models with different numbers of layers.", "Choose another run.")
    return origins


def measurement(config: RunConfig) -> Measurement | None:
    """What was measured of a run's model before it was pruned: on its text, else as shipped; None where nothing was."""
    run = _analysed(config) or example_runs.run_for(config.model)
    return cached.measurement(run) if run is not None else None


def _analysed(config: RunConfig) -> Run | None:
    """The analysis of a run's model on its text."""
    for dtype in dict.fromkeys((config.dtype, "auto")):
        run = come.runs.analysis_for(
            config.model,
            config.text,
            config.n_tokens,
            config.seq_len,
            config.seed,
            bos=config.bos,
            dtype=dtype,
            also=[example_runs.FOLDER],
        )
        if run is not None:
            return run
    return None


def borrowed(config: RunConfig) -> str:
    """Whose the sensitivities are, where they are not of the run's own tokens: a sentence; "" else."""
    shipped = example_runs.run_for(config.model) if _analysed(config) is None else None
    if shipped is None:
        return ""
    return f"Sensitivities by the shipped analysis, on {shipped.config.n_tokens:,} tokens of {shipped.config.text}."


def sensitivity(measured: Measurement | None, origins: Provenance) -> np.ndarray | None:
    """The sensitivities of a part, (layers, units); None where they were not measured."""
    if measured is None:
        return None
    values = measured.mlp_sensitivity if origins.part == "ffn" else measured.kv_group_sensitivity
    return values.numpy() if values.shape == origins.lost.shape else None


def active_analysis(config: RunConfig) -> Run | None:
    """The analysis that would fill the gap, if it waits or runs."""
    wanted = analysis_of(config)
    for run in come.runs.list_runs()[:50]:
        with suppress(ComeError):
            if run.config.kind == "analyze" and analysis_of(run.config) == wanted and run.state().active:
                return run
    return None


def analysis_of(config: RunConfig) -> RunConfig:
    """The request of an analysis of the same model and text."""
    chosen = Choice(config.model, config.text, config.n_tokens, config.seq_len, config.seed, config.bos)
    return request.analysis(chosen)


def _facts(source: str) -> Facts | None:
    with suppress(ComeError):
        return cached.facts(source)
    return None


def _has_plan(run: Run, reads: bool) -> bool:
    with suppress(ComeError):
        if run.readable and run.config.kind == "compress" and (run.path / PLAN).is_file():
            return not reads or bool(run.results().get("plan")) or _can_be_read(*cached.plan_stamp(run))
    return False


@lru_cache(maxsize=1024)
def _can_be_read(path: str, mtime_ns: int) -> bool:
    """Whether a plan can be, once while it does not change; of what is done that is known."""
    del mtime_ns
    with suppress(ComeError):
        return bool(Plan.read(Path(path)))
    return False


@st.cache_resource(max_entries=16, show_spinner=False)
def _followed(path: str, mtime_ns: int, part: Part, units: int) -> Provenance:
    return follow(cached.plan_of_stamp(path, mtime_ns), part, units)
