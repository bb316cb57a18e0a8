"""The cost model: against measured runs on this machine, and extrapolated to models and devices that are not here."""

from __future__ import annotations

import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import come
from benchmarks.timing import MODEL, markdown
from come import settings
from come.estimation.cost import Estimate, estimate
from come.estimation.device import Device, measure_device, remember
from come.estimation.published import published
from come.files import human_bytes
from come.models import Facts
from come.request import RunConfig
from come.runs import Run

CASES: dict[str, dict[str, Any]] = {
    "analysis": {"kind": "analyze"},
    "CoMe 30 → 27": {"target_layers": 27},
    "ShortGPT 30 → 27": {"method": "shortgpt", "target_layers": 27},
    "CoMe 30 → 21, one pass": {"target_layers": 21, "options": {"passes": 1}},
    "CoMe-P 30 → 29": {"method": "come-p", "target_layers": 29},
}
TOKENS = 4096
ROUNDS = 3

# A run in a process of its own, as the page and the command line have it; what it took is the last line.
_WORK = """
import json, resource, sys
from come.runs import RunConfig, create, execute
run = create(RunConfig.model_validate_json(sys.argv[1]))
execute(run)
state = run.state()
peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([str(run.path), state.finished - state.started, peak]))
"""

CALIBRATION, SEQ_LEN, EVALUATION, SPARSITY = 256 * 2048, 2048, 65536, 0.3
HOST_MEMORY = 256_000_000_000
DEVICES = (("RTX 4090", 1), ("RTX 4090", 4), ("A100 80GB", 1), ("A100 80GB", 4), ("H100 80GB", 1), ("H100 80GB", 4))
_LLAMA2 = {"model_type": "llama", "vocab_size": 32000, "max_position_embeddings": 4096, "dtype": "bfloat16"}
MODELS: dict[str, dict[str, Any]] = {
    "Qwen3-4B": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "tie_word_embeddings": True,
        "dtype": "bfloat16",
    },
    "LLaMA-2-7B": _LLAMA2
    | {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32},
    "LLaMA-2-13B": _LLAMA2
    | {"hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40, "num_attention_heads": 40},
    "LLaMA-2-70B": _LLAMA2
    | {
        "hidden_size": 8192,
        "intermediate_size": 28672,
        "num_hidden_layers": 80,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
    },
}
"""The published configs, as far as the shape goes."""


def table() -> str:
    """What is said of runs here against what they take, then what is said of others."""
    return f"{compared()}\n\n### Extrapolated, not measured\n\n{extrapolated()}"


def compared(rounds: int = ROUNDS) -> str:
    """One row a run of the bundled model: measured, and the estimate over it; medians over rounds."""
    found = [_round() for _ in range(rounds)]
    rows = [(name, *map(statistics.median, zip(*(one[name] for one in found), strict=True))) for name in CASES]
    columns = ("run", "measured, s", "estimate / measured", "with an analysis", "memory, estimate / measured")
    return markdown(columns, rows)


def _round() -> dict[str, tuple[float, ...]]:
    """Every run once: seconds, estimate / measured without and with an analysis, and memory / measured."""
    rows: dict[str, tuple[float, ...]] = {}
    measurement = None
    home = settings.home()
    with tempfile.TemporaryDirectory() as folder:
        # The converted model is used, perplexities of earlier runs are not.
        fresh = Path(folder) / "home"
        fresh.mkdir()
        come.load(MODEL, device="cpu")
        for kept in ("models", "device.json"):
            (fresh / kept).symlink_to(home.resolve() / kept)
        environment = {**os.environ, "COME_HOME": str(fresh), "COME_RUNS": str(Path(folder) / "runs")}
        facts = come.describe(MODEL)
        for name, changes in CASES.items():
            config = RunConfig.model_validate({"n_tokens": TOKENS, "evaluation_tokens": TOKENS, **changes})
            before = measure_device(facts.dtype)
            remember(before, facts.dtype)
            path, taken, peak = _measured(config, environment)
            device = _between(before, measure_device(facts.dtype))
            blind = estimate(config, facts, device)
            informed = estimate(config, facts, device, measurement=measurement)
            measurement = Run(Path(path)).measurement() or measurement
            for figures in (fresh / "measured").glob("*"):
                figures.unlink()
            rows[name] = (taken, blind.seconds / taken, informed.seconds / taken, informed.memory_bytes / peak)
    return rows


def _between(before: Device, after: Device) -> Device:
    """The speeds of a shared machine around a run: their means."""
    return dataclasses.replace(
        before,
        flops={name: (each + after.flops[name]) / 2 for name, each in before.flops.items()},
        attention_flops={
            name: (each + after.attention_flops[name]) / 2 for name, each in before.attention_flops.items()
        },
        bandwidth=(before.bandwidth + after.bandwidth) / 2,
        host_bandwidth=(before.host_bandwidth + after.host_bandwidth) / 2,
        hashing=(before.hashing + after.hashing) / 2,
    )


def _measured(config: RunConfig, environment: dict[str, str]) -> tuple[str, float, int]:
    """A run's directory, the seconds it took and the peak of its process in bytes."""
    command = [sys.executable, "-c", _WORK, config.model_dump_json()]
    told = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    path, taken, peak = json.loads(told.stdout.splitlines()[-1])
    return path, taken, peak


def extrapolated() -> str:
    """One row a model, one column a device: how long CoMe would take, and what it would need."""
    config = RunConfig(
        method="come",
        sparsity=SPARSITY,
        n_tokens=CALIBRATION,
        seq_len=SEQ_LEN,
        evaluation_tokens=EVALUATION,
        dtype="bfloat16",
        device="balanced",
    )
    rows = []
    for name, shape in MODELS.items():
        facts = facts_of(name, shape)
        devices = [published(device, count, HOST_MEMORY) for device, count in DEVICES]
        several = [estimate(config, facts, device) for device in devices]
        layers = f"{facts.layers} → {several[0].layers}"
        roomy = estimate(config, facts, dataclasses.replace(devices[2], count=64))
        rows.append((name, layers, human_bytes(roomy.memory_bytes), *(_cell(each) for each in several)))
    heads = [f"{count} x {device}" if count > 1 else device for device, count in DEVICES]
    return markdown(("model", "layers", "GPU memory needed", *heads), rows)


def facts_of(name: str, shape: dict[str, Any]) -> Facts:
    """The facts of a model that is not here, from its config alone."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(shape))
        # `load` would refuse that folder, which has no weights.
        return dataclasses.replace(come.describe(folder), source=name, title=name, supported=True, reason="")


def _cell(expected: Estimate) -> str:
    minutes = expected.seconds / 60
    taken = f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
    if not expected.fits:
        return "does not fit"
    return f"{taken}, weights partly in main memory" if expected.warnings else taken
