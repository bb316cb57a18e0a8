"""What a run does, stage by stage. Needs torch; imported when it is the run's turn."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from come import __version__
from come.compress import compress
from come.errors import ComeError
from come.estimate import known_device, measure_device, remember
from come.events import OnProgress, emit
from come.measure import measure
from come.merge import Concatenate, Plan, Remove, Result, StepRecord, methods
from come.models import Bundle, load, save
from come.runs.config import RunConfig
from come.runs.files import replace
from come.runs.perplexities import perplexity_of, perplexity_once
from come.runs.store import Run
from come.text import text_hash, tokens
from come.text.sources import Split

PACKAGES = ("torch", "transformers", "safetensors", "numpy")


def work(run: Run, config: RunConfig, on_progress: OnProgress = None) -> None:
    """Do all that a run asks for and leave it in its directory. What lies there already is not done again.

    Raises:
        ComeError: something in the request turns out to be impossible.
    """
    results = Results(run, config)
    with results.timed("load"):
        bundle = load(config.model, config.device, config.dtype, on_progress)
    _remember_speed(bundle, config.device)
    with results.timed("text"):
        emit(on_progress, "text", 0, 1, f"Reading {config.text}")
        calibration = tokens(bundle, config.text, config.n_tokens, config.seq_len, "calibration", config.seed)
        emit(on_progress, "text", 1, 1, f"{calibration.numel():,} tokens of {config.text}")
    results.note(device=str(bundle.model.device), dtype=_dtype(bundle), original=_size(bundle))
    if config.kind == "analyze":
        _analyze(run, config, bundle, calibration, results, on_progress)
    else:
        _prune(run, config, bundle, calibration, results, on_progress)
    emit(on_progress, "done", 1, 1, "Done")


def _remember_speed(bundle: Bundle, device: str) -> None:
    """Measure this machine's speed once (a second), so that the page can say beforehand what runs will take."""
    dtype = _dtype(bundle)
    if known_device(dtype, device) is None:
        with suppress(ComeError, OSError):
            remember(measure_device(dtype, device=device), dtype, device)


class Results:
    """results.json, as it grows: written whole after every stage, taken up again by a resumed run."""

    def __init__(self, run: Run, config: RunConfig) -> None:
        self.path = run.path / "results.json"
        self.values: dict[str, Any] = run.results()
        self.values |= {
            "calibration": _text_facts(config, "calibration"),
            "versions": {"come": __version__, "python": platform.python_version(), **_versions()},
        }
        self.seconds: dict[str, float] = self.values.setdefault("seconds", {})

    def note(self, **values: Any) -> None:
        """Take in figures beside those that are known (perplexities beside sizes), and write the file."""
        for name, value in values.items():
            known = self.values.get(name)
            if isinstance(known, dict) and isinstance(value, dict):
                value = {**known, **value}
            self.values[name] = value
        replace(self.path, json.dumps(self.values, indent=1))

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Adds the time that a stage takes to the seconds of that stage."""
        before = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - before, 3)


def _analyze(
    run: Run,
    config: RunConfig,
    bundle: Bundle,
    calibration: Tensor,
    results: Results,
    on_progress: OnProgress,
) -> None:
    path = run.path / "analysis.safetensors"
    if not path.exists():
        with results.timed("measure"):
            measurement = measure(
                bundle,
                calibration,
                span=config.span,
                sbi_tokens=config.sbi_tokens,
                last_state=config.last_state,
                similarity=config.similarity,
                batch_size=config.batch_size,
                on_progress=on_progress,
            )
        measurement.save(path)
    results.note()


def _prune(
    run: Run,
    config: RunConfig,
    bundle: Bundle,
    calibration: Tensor,
    results: Results,
    on_progress: OnProgress,
) -> None:
    done = run.plan()
    with results.timed("compress"):
        result = _compress(run, config, bundle, calibration, done, on_progress)
    if "history" not in results.values:
        replayed = [record for step in (done.steps if done else []) for record in _replayed(step)]
        results.note(history=[*replayed, *(record.to_dict() for record in result.history)])
    results.note(pruned=_size(result.bundle))
    if "ppl" in config.evaluate:
        _evaluate(config, bundle, result.bundle, results, on_progress)
    if config.keep_model and not (run.path / "model").exists():
        emit(on_progress, "save", 0, 1, "Saving the pruned model")
        with results.timed("save"):
            save(result.bundle, run.path / "model", config.save_dtype, results=results.values)
        emit(on_progress, "save", 1, 1, "Saved the pruned model")
    results.note(model_folder="model" if config.keep_model else None)


def _compress(
    run: Run,
    config: RunConfig,
    bundle: Bundle,
    calibration: Tensor,
    done: Plan | None,
    on_progress: OnProgress,
) -> Result:
    """The pruned model; its plan is in plan.json after every step, and what lay there is replayed first."""
    options = dict(config.options)
    if config.batch_size is not None and "batch_size" in methods()[config.method].defaults():
        options.setdefault("batch_size", config.batch_size)
    return compress(
        bundle,
        calibration,
        config.method,
        target_layers=config.target_layers,
        sparsity=config.sparsity,
        on_progress=on_progress,
        done=done,
        on_step=lambda plan: plan.write(run.path / "plan.json"),
        **options,
    )


def _replayed(step: Concatenate | Remove) -> list[dict[str, Any]]:
    """The records of a step that an interrupted process took: what was measured for it is not in the plan."""
    if isinstance(step, Remove):
        return [StepRecord((layer, layer)).to_dict() for layer in step.layers]
    return [StepRecord(step.window, tuple(step.ratio)).to_dict()]


def _evaluate(config: RunConfig, original: Bundle, pruned: Bundle, results: Results, on_progress: OnProgress) -> None:
    """Perplexity of both models on held-back text."""
    text = config.evaluated_on
    held_back = tokens(original, text, config.evaluation_tokens, config.seq_len, "evaluation", config.seed)
    results.note(evaluation=_text_facts(config, "evaluation"))
    with results.timed("evaluate original"):
        results.note(original=perplexity_once(original, held_back, config.batch_size, on_progress))
    if "perplexity" not in results.values["pruned"]:
        with results.timed("evaluate pruned"):
            results.note(pruned=perplexity_of(pruned, held_back, config.batch_size, on_progress, "pruned"))


def _text_facts(config: RunConfig, split: Split) -> dict[str, Any]:
    """What is told of a text beside the figures taken on it: a file's name, but not where on the machine it lies."""
    text, n_tokens = config.text, config.n_tokens
    if split == "evaluation":
        text, n_tokens = config.evaluated_on, config.evaluation_tokens
    return {
        "text": Path(text).name if Path(text).is_absolute() else text,
        "text_hash": text_hash(text, split),
        "split": split,
        "n_tokens": n_tokens // config.seq_len * config.seq_len,
        "seq_len": config.seq_len,
        "seed": config.seed,
    }


def _versions() -> dict[str, str]:
    return {name: version(name) for name in PACKAGES}


def _size(bundle: Bundle) -> dict[str, int]:
    return {"layers": len(bundle.layers), "parameters": bundle.parameters, "bytes": bundle.bytes}


def _dtype(bundle: Bundle) -> str:
    return str(bundle.dtype).removeprefix("torch.")
