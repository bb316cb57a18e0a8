"""What the lesson is made of: the shipped example's arrays and runs, and values that were measured for it.

All of it is of the bundled model and lies in the project, so that the lesson needs neither network nor waiting.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors import safe_open

from app import example_runs
from app.learn import on_the_way
from app.learn.on_the_way import Measured
from app.state import cached
from app.state.choice import Draft
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.plan.plan import Plan
from come.pruning.registry import PAPER
from come.pruning.windows import WindowCost
from come.runs import Run
from come.serving.whatif.answer import Answer
from come.serving.whatif.question import Subject

How = Literal["concatenate", "average"]
HOWS: tuple[How, How] = ("concatenate", "average")
VALUES = Path(__file__).resolve().parent / "values"  # written by scripts/lesson_values.py
PAIRS = 4


@dataclass(frozen=True)
class Activations:
    """One layer's FFN channels at work.

    Attributes:
        layer: which.
        words: the tokens shown, as they read.
        activation: absolute values that enter `down_proj` at these tokens, (tokens, channels).
        mean_activation: their mean over all of the example's tokens, (channels,).
        reach: sum over i of |W_ij| of `down_proj`, (channels,).
    """

    layer: int
    words: list[str]
    activation: np.ndarray
    mean_activation: np.ndarray
    reach: np.ndarray


@dataclass(frozen=True)
class Material:
    """The example: its analysis, and its longest run of CoMe with what that measured at each step.

    Attributes:
        run: the analysis. measured: what it found.
        plan, history: of the run, one entry a merge.
        by_merge: (perplexity, standard error) of the original and after each merge of the run; empty where unmeasured.
        perplexities: the same by count of layers, of the example's runs of CoMe whose merges are the same as far as
            they go, and of the original.
        one_window: the same of its runs of CoMe-Joint, each of a single merge; both are from before any recovery.
        costs: what merging windows was measured to cost.
        activations, answers: measured for the lesson; answers by "original" and by "<how> <first>-<last>".
    """

    run: Run
    measured: Measurement
    plan: Plan
    history: list[dict[str, Any]]
    by_merge: list[Measured]
    perplexities: dict[int, Measured]
    one_window: dict[int, Measured]
    costs: tuple[WindowCost, ...]
    activations: Activations
    answers: dict[str, Answer]

    @property
    def layers(self) -> int:
        """Layers of the original."""
        return self.measured.layers


def analysis_run() -> Run | None:
    """The example's analysis, if it is there."""
    return next((run for run in example_runs.runs() if (run.path / "analysis.safetensors").is_file()), None)


def load() -> Material | None:
    """Everything; None where the example is not complete."""
    run = analysis_run()
    deepest = longest(run.config.model) if run is not None else None
    if run is None or deepest is None or not (VALUES / "answers.json").is_file():
        return None
    return _load(run.path, deepest.path)


def subject(run: Run) -> Subject:
    """The example's model and text, as the resident process is asked about them."""
    config = run.config
    return Subject(
        model=config.model,
        text=config.text,
        bos=config.bos,
        analysis=str((Path(run.path) / "analysis.safetensors").resolve()),
    ).first_look()  # a lesson waits for no more


def facts() -> Facts | None:
    """The bundled model's facts; None where it cannot be read now."""
    run = analysis_run()
    try:
        return cached.facts(run.config.model) if run is not None else None
    except ComeError:
        return None


def pairs(measured: Measurement) -> list[tuple[int, int]]:
    """The pairs of layers that turn the hidden state least, the best first."""
    best = np.argsort(measured.skip_influence.numpy(), kind="stable")[:PAIRS]
    return [(int(first), int(first) + measured.span - 1) for first in best]


@lru_cache(maxsize=4)
def _load(analysis: Path, deepest: Path) -> Material:
    runs = {Path(run.path): run for run in example_runs.runs()}
    run, measured = runs[analysis], Measurement.load(Path(analysis) / "analysis.safetensors")
    plan = runs[deepest].plan()
    assert plan is not None
    history = list(runs[deepest].results()["history"])
    answers = json.loads((VALUES / "answers.json").read_text("utf-8"))
    return Material(
        run,
        measured,
        plan,
        history,
        on_the_way.merges(runs[deepest]),
        _perplexities(history, run.config.model),
        _one_window(run.config.model),
        cached.window_costs(run),
        _activations(),
        {name: Answer(**answer) for name, answer in answers.items()},
    )


def _runs_of(method: str, model: str) -> list[Run]:
    return [run for run in example_runs.runs() if run.config.method == method and _finished(run, model)]


def _finished(run: Run, model: str) -> bool:
    return run.config.kind == "compress" and run.config.model == model and run.plan() is not None


def longest(model: str) -> Run | None:
    """The example's run of CoMe with the most merges."""
    return max(_runs_of(PAPER, model), key=lambda run: len(run.results().get("history", [])), default=None)


def _perplexities(history: list[dict[str, Any]], model: str) -> dict[int, Measured]:
    windows = [step["window"] for step in history]
    found: dict[int, Measured] = {}
    for run in _runs_of(PAPER, model):
        results = run.results()
        own = [step["window"] for step in results["history"]]
        if own == windows[: len(own)]:
            for metrics in (results["original"], before_recovery(results)):
                if "perplexity" in metrics:
                    found[metrics["layers"]] = (metrics["perplexity"], metrics["perplexity_stderr"])
    return found


def _one_window(model: str) -> dict[int, Measured]:
    sides = [before_recovery(run.results()) for run in _runs_of(Draft().method, model)]
    return {side["layers"]: (side["perplexity"], side["perplexity_stderr"]) for side in sides if "perplexity" in side}


def before_recovery(results: Mapping[str, Any]) -> Mapping[str, Any]:
    """What pruning alone left: what training gave back says nothing of the way to prune."""
    return results.get("unrecovered") or results["pruned"]


def _activations() -> Activations:
    with safe_open(VALUES / "activations.safetensors", framework="np") as file:
        facts = file.metadata()
        arrays = {name: file.get_tensor(name) for name in ("activation", "mean_activation", "reach")}
    return Activations(int(facts["layer"]), json.loads(facts["words"]), **arrays)
