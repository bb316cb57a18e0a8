"""Who may speak in the playground, what to ask them first, and whether a model was trained to answer."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import streamlit as st

import come.models.source
import come.runs
from app import example_runs
from app.components import run_labels
from app.playground.generation import ORIGINAL, Comparison, Generation, recorded
from come.errors import ComeError
from come.models.catalogue import BUNDLED, known
from come.models.small_files import read_small_json
from come.plan.plan import Plan
from come.report import comparison
from come.request import anchored_path
from come.runs import Run

MOST = 3  # pruned models beside the original
LONGEST_PROMPT = 2000
LONGEST_LINK = 300  # characters of a prompt that still goes into the URL
RECORDING = example_runs.FOLDER / "playground.json"
_RUNS_LOOKED_AT = 200
_METADATA_BYTES = 1 << 25

# To be answered, and to be gone on from.
QUESTIONS = {
    "Capital of France": "What is the capital of France?",
    "Blue sky": "Why is the sky blue? Answer in one sentence.",
    "A list": "Name three animals that live in the sea.",
    "Some code": "Write a Python function that adds two numbers.",
}
BEGINNINGS = {
    "Capital of France": "The capital of France is",
    "A tale": "Once upon a time, in a village by the sea,",
    "Counting": "One, two, three, four, five,",
    "Some code": "def add(a, b):\n    ",
}


@dataclass(frozen=True)
class Candidate:
    """A pruned model that may speak.

    Attributes:
        run: the id of the run that made it.
        plan: the path of its plan.json.
        name: what its answer is headed with. label: what it is called in the list. method: which made it.
        layers: how many it has, where that is known. dtype: of its weights; models of one dtype are compared.
        sweep: which runs it was started together with; "" for none.
    """

    run: str
    plan: str
    name: str
    label: str
    method: str
    layers: int | None
    dtype: str
    sweep: str
    shipped: bool


@dataclass(frozen=True)
class Offer:
    """What can be compared now.

    Attributes:
        model: the original; the example's where the chosen model has no pruned run yet.
        title: the original in words.
        borrowed: whether it is the example's, though another one is chosen.
        candidates: the pruned models, by run id, one's own first and newest first.
    """

    model: str
    title: str
    borrowed: bool
    candidates: dict[str, Candidate]

    @property
    def names(self) -> dict[str, str]:
        """What each speaker is called."""
        return {ORIGINAL: "Original", **{run: found.name for run, found in self.candidates.items()}}

    @property
    def methods(self) -> dict[str, str]:
        """Which method made each pruned model."""
        return {run: found.method for run, found in self.candidates.items()}

    def default(self) -> list[str]:
        """One's newest with what was started together with it, or with the newest before it of the same size.

        Of the example CoMe's, from the mildest to the harshest.
        """
        own = [run for run, found in self.candidates.items() if not found.shipped]
        if own:
            newest = self.candidates[own[0]]
            alike = [run for run in own if self.candidates[run].dtype == newest.dtype]
            together = [run for run in alike if newest.sweep and self.candidates[run].sweep == newest.sweep]
            return together[::-1][:MOST] or [run for run in alike if self.candidates[run].layers == newest.layers][:2]
        return sorted((run for run in self.candidates if "-come-" in run), key=self._layers, reverse=True)[:MOST]

    def _layers(self, run: str) -> int:
        return self.candidates[run].layers or 0

    def unlike(self, chosen: list[str]) -> str:
        """Why the chosen ones cannot be compared, as a sentence; "" where they can."""
        dtypes = {self.candidates[run].dtype for run in chosen}
        if len(dtypes) < 2:
            return ""
        return f"These plans were made in {' and '.join(sorted(dtypes))}. Choose models of one dtype."


def offer(model: str) -> Offer:
    """The finished runs of a model, and the shipped ones of it; without any, those of the example's model."""
    own = _of(model)
    if own:
        return Offer(model, title(model), False, own)
    return Offer(BUNDLED, title(BUNDLED), model != BUNDLED, _of(BUNDLED))


def recording(offered: Offer) -> tuple[Generation, Comparison] | None:
    """What the example's models said when the example was made; None where one's own are offered first."""
    shipped = {run: found.plan for run, found in offered.candidates.items() if found.shipped}
    ours = offered.model == BUNDLED and set(offered.default()) <= set(shipped)
    return recorded(RECORDING, shipped, offered.names, offered.methods) if ours else None


def example() -> Generation | None:
    """What the example's models said when it was made, to look at before one's own have answered."""
    found = _candidates(BUNDLED, example_runs.runs())
    offered = Offer(BUNDLED, title(BUNDLED), False, found)
    kept = recorded(RECORDING, {run: each.plan for run, each in found.items()}, offered.names, offered.methods)
    return kept[0] if kept else None


def answers_questions(model: str) -> bool | None:
    """Whether a model's tokenizer has a chat template; None where that cannot be told before it is loaded."""
    return _has_template(model, time.time() // 60)


@st.cache_data(max_entries=64, show_spinner=False)
def _has_template(model: str, minute: float) -> bool | None:
    del minute  # part of the cache's key only: a folder may change
    try:
        source = come.models.source.resolve(model)
    except ComeError:
        return None
    with suppress(OSError, ComeError):
        if source.kind == "gguf":
            with source.path.open("rb") as file:
                return b"tokenizer.chat_template" in file.read(_METADATA_BYTES)
        if source.kind == "folder":
            if (source.path / "chat_template.jinja").is_file():
                return True
            return "chat_template" in read_small_json(source.path / "tokenizer_config.json")
    return None


def _of(model: str) -> dict[str, Candidate]:
    """The candidates of a model, one's own runs first."""
    return _candidates(model, [*come.runs.list_runs()[:_RUNS_LOOKED_AT], *example_runs.runs()])


def _candidates(model: str, runs: Sequence[Run]) -> dict[str, Candidate]:
    """Those of a model among these runs. Of several of one name, all get their time or place of origin."""
    wanted = anchored_path(model)
    found: dict[str, tuple[Run, str]] = {}
    for run in runs:
        with suppress(ComeError):
            config = run.config
            if config.kind == "compress" and config.model == wanted and run.state().status == "done":
                path = run.path / "plan.json"
                dtype = _dtype(str(path), path.stat().st_mtime_ns) if path.is_file() else ""
                found.setdefault(run.id, (run, dtype))
    names = {run_id: _name(run) for run_id, (run, _) in found.items()}
    twice = {name for name, count in Counter(names.values()).items() if count > 1}
    origins = {run_id: run_labels.origin(run) for run_id, (run, _) in found.items()}
    headings = {run_id: f"{name} ({origins[run_id]})" if name in twice else name for run_id, name in names.items()}
    headings = run_labels.distinct(headings)
    options = run_labels.distinct({run_id: f"{name} · {origins[run_id]}" for run_id, name in names.items()})
    return {
        run_id: Candidate(
            run=run_id,
            plan=str(run.path / "plan.json"),
            name=headings[run_id],
            label=options[run_id],
            method=run.config.method,
            layers=_layers_left(run),
            dtype=dtype,
            sweep=run.config.sweep,
            shipped=example_runs.is_example(run),
        )
        for run_id, (run, dtype) in found.items()
        if dtype
    }


def _name(run: Run) -> str:
    """What a run is called, its size included."""
    name, layers = comparison.run_name(run), _layers_left(run)
    return name if layers is None or f"{layers} layers" in name else f"{name}, {layers} layers"


def _layers_left(run: Run) -> int | None:
    return (run.results().get("pruned") or {}).get("layers")


@st.cache_data(max_entries=256, show_spinner=False)
def _dtype(path: str, mtime_ns: int) -> str:
    """The dtype of a plan; "" for one that cannot be read, or whose weights did not come with it (the example's)."""
    del mtime_ns
    with suppress(ComeError):
        plan = Plan.read(Path(path))
        return plan.dtype if plan.has_weights else ""
    return ""


def title(model: str) -> str:
    """What a model is called."""
    entry = known(model)
    return entry.title if entry else model.rstrip("/").rsplit("/", 1)[-1]
