"""Run directories with all that a run can measure, made up: for the compare page, where real runs take hours."""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import stdev
from typing import Any

from come.report.measured import Result, Sample, Value
from come.request import RunConfig
from come.runs import Run
from come.runs.state import State

LAYERS, PARAMETERS, A_LAYER = 30, 134_515_008, 3_540_096
TASKS = {"physical_sense": 0.5, "what_happens_next": 0.25, "school_science": 0.25, "cloze_facts": 0.25}
KEEPING_LAYERS = ("finercut", "fisher")
ORIGINAL_PERPLEXITY = 40.5
UNLIKE = (-0.6, 0.4, 0.1, -0.3, 0.7, 0.0, -0.4, 0.1)  # how hard each sequence is, for every model


def result(
    method: str,
    layers: int | None,
    perplexity: float | None = None,
    stderr: float | None = None,
    *,
    seed: int = 0,
    **measured: Value,
) -> Result:
    """A result as the page's functions take it; without a perplexity, whatever `measured` says."""
    values = dict(measured) if perplexity is None else {"perplexity": Value(perplexity, stderr), **measured}
    title = {"come": "CoMe", "come-p": "CoMe-P", "shortgpt": "ShortGPT", "sleb": "SLEB"}.get(
        method, method.capitalize()
    )
    return Result(
        run=f"run-{method}-{layers}-{seed}",
        name=f"{title}, {layers} layers",
        method=method,
        series="original" if method == "original" else title,
        layers=layers,
        parameters=(layers or LAYERS) * 10**6,
        bytes=(layers or LAYERS) * 4 * 10**6,
        removed=1 - (layers or LAYERS) / LAYERS,
        seed=seed,
        values=values,
    )


def read(method: str, layers: int, losses: Sequence[float], *, seed: int = 0) -> Result:
    """A result whose losses on each sequence were kept."""
    spread = stdev(losses) / len(losses) ** 0.5 if len(losses) > 1 else None
    value = math.exp(sum(losses) / len(losses))
    known = result(method, layers, value, None if spread is None else value * spread, seed=seed)
    return replace(known, samples={"perplexity": Sample(tuple(losses), "a text")})


def answered(method: str, hits: str, layers: int = 27, task: str = "quiz", chance: float = 0.25) -> Result:
    """A result whose answers to each question of a task were kept: "0110"."""
    share = hits.count("1") / len(hits)
    value = Value(share, (share * (1 - share) / len(hits)) ** 0.5, chance=chance, basis=len(hits))
    known = replace(result(method, layers), values={f"accuracy/{task}": value})
    whole = replace(value, basis=((task, len(hits)),))
    sample = Sample(tuple(float(hit) for hit in hits), (task, len(hits)), "question")
    return replace(known, values=known.values | {"accuracy": whole}, samples={f"accuracy/{task}": sample})


def sweep(
    runs: Path,
    methods: Iterable[str],
    targets: Iterable[int],
    seeds: Iterable[int] = (0,),
    *,
    measure: Iterable[str] = ("ppl", "acc", "speed"),
    name: str = "sweep-1",
) -> list[Run]:
    """A finished run for every cell; the figures are random, the same at every call, worse for smaller models."""
    return [
        write(runs, f"{number:04}", results_of(method, target, seed, measure), method, target, seed=seed, sweep=name)
        for number, (seed, method, target) in enumerate(
            (seed, method, target) for seed in seeds for method in methods for target in targets
        )
    ]


def write(
    runs: Path,
    number: str,
    results: Mapping[str, Any],
    method: str,
    target: int | None,
    status: str = "done",
    **config: Any,
) -> Run:
    """A run directory with these results."""
    folder = runs / f"20261122-15{number}-{method}-{target}"
    folder.mkdir(parents=True)
    asked = RunConfig(method=method, target_layers=target, keep_model=False, **config)
    (folder / "config.json").write_text(asked.model_dump_json(indent=1))
    (folder / "state.json").write_text(State(status=status, created=time.time(), finished=2.0).model_dump_json())
    (folder / "results.json").write_text(json.dumps(results))
    return Run(folder.resolve())


def results_of(method: str, target: int, seed: int, measure: Iterable[str] = ("ppl", "acc", "speed")) -> dict[str, Any]:
    """A results.json, with what was asked to be measured."""
    luck = random.Random(f"{method}-{target}-{seed}")
    skill = random.Random(method).uniform(0.8, 2.2) if method != "come" else 1.0
    gone = (LAYERS - target) / LAYERS
    parameters = PARAMETERS - (LAYERS - target) * A_LAYER
    layers = LAYERS if method in KEEPING_LAYERS else target
    harm = skill * gone * luck.uniform(0.95, 1.05)
    original: dict[str, Any] = {"layers": LAYERS, "parameters": PARAMETERS, "bytes": 4 * PARAMETERS}
    pruned: dict[str, Any] = {"layers": layers, "parameters": parameters, "bytes": 4 * parameters}
    results: dict[str, Any] = {"device": "cpu", "dtype": "float32", "original": original, "pruned": pruned}
    if "ppl" in measure:
        results["evaluation"] = {"text": "python-docs", "text_hash": "71f2", "n_tokens": 4096, "seq_len": 512}
        whole = ORIGINAL_PERPLEXITY * random.Random(seed).uniform(0.97, 1.03)
        original |= _text(whole, 0.04)
        pruned |= _text(whole * 2.718 ** (6 * harm), 0.05) | {"kl": 4 * harm, "kl_stderr": 0.1 * harm}
        for side in (original, pruned):
            noise = [luck.uniform(-0.05, 0.05) for _ in UNLIKE]
            mean = math.log(side["perplexity"]) - (sum(UNLIKE) + sum(noise)) / len(UNLIKE)
            side["losses"] = [mean + hard + own for hard, own in zip(UNLIKE, noise, strict=True)]
    if "acc" in measure:
        kept = {task: max(0.0, 1 - 2 * harm * luck.uniform(0.8, 1.2)) for task in TASKS}
        original["accuracy"] = {task: _accuracy(0.45 + chance / 2, chance) for task, chance in TASKS.items()}
        pruned["accuracy"] = {
            task: _accuracy(chance + kept[task] * (0.45 - chance / 2), chance) for task, chance in TASKS.items()
        }
        pruned["retention"] = {task: {"value": share, "stderr": 0.08} for task, share in kept.items()}
        pruned["retention"]["mean"] = {"value": sum(kept.values()) / len(kept), "stderr": 0.04}
    if "speed" in measure:
        original["speed"] = _speed(1.0, PARAMETERS)
        pruned["speed"] = _speed(1 + gone * luck.uniform(0.8, 1.1), parameters)
    return results


def _text(perplexity: float, error: float) -> dict[str, float]:
    return {
        "perplexity": perplexity,
        "perplexity_stderr": perplexity * error,
        "bits_per_byte": 0.2 * perplexity**0.4,
        "bits_per_byte_stderr": 0.01,
    }


def _accuracy(value: float, chance: float) -> dict[str, float]:
    return {
        "acc": value,
        "acc_stderr": 0.035,
        "acc_norm": value,
        "acc_norm_stderr": 0.035,
        "items": 200,
        "chance": chance,
    }


def _speed(factor: float, parameters: int) -> dict[str, Any]:
    rates = {"prefill_tokens_per_second": 900 * factor, "decode_tokens_per_second": 22 * factor}
    timed = rates | {"time_to_first_token": 0.3 / factor}
    return timed | {
        "weights_bytes": 4 * parameters,
        "peak_memory_bytes": 5 * parameters,
        "quartiles": {name: [0.98 * value, 1.03 * value] for name, value in timed.items()},
        "rounds": 5,
        "prompt_tokens": 256,
        "new_tokens": 32,
        "batch_size": 1,
        "device": "cpu",
    }
