"""On paper: what a 70B model asks of a machine, by the cost model: memory, passes, hours, GPU-hours. Nothing is run."""

from __future__ import annotations

import dataclasses
from typing import Any

from benchmarks.estimate import CALIBRATION, EVALUATION, HOST_MEMORY, MODELS, SEQ_LEN, facts_of
from benchmarks.timing import markdown
from come.estimation.cost import Estimate, estimate
from come.estimation.published import published
from come.estimation.work import Clock
from come.files import human_bytes
from come.models import Facts
from come.request import RunConfig

MODEL, TARGET = "LLaMA-2-70B", 60
MACHINES = (("A100 80GB", 4), ("H100 80GB", 4), ("H200", 2))
RECOVERY_TOKENS = 10_000_000
SCORED = {"n_tokens": 32 * SEQ_LEN}  # what the methods take that run the layers for many candidates
CASES: dict[str, dict[str, Any]] = {
    "an analysis": {"kind": "analyze"},
    "ShortGPT": {"method": "shortgpt"},
    "CoMe": {"method": "come"},
    "CoMe, `passes=1`": {"method": "come", "options": {"passes": 1}},
    "CoMe-P, coarse to fine, 65,536 tokens": {
        "method": "come-p",
        "options": {"search": "coarse-to-fine"},
        **SCORED,
    },
    "CoMe-Joint": {"method": "come-joint"},
    "Auto, 65,536 tokens": {"method": "auto", **SCORED},
    "SLEB, 65,536 tokens": {"method": "sleb", **SCORED},
    "ShortGPT, then the default recovery on 10 million tokens": {
        "method": "shortgpt",
        "recover": ["default"],
        "recover_tokens": RECOVERY_TOKENS,
    },
}


def table() -> str:
    """A row a method: what it needs, what it runs in plain passes of the trunk, and the hours on each machine."""
    facts = facts_of(MODEL, MODELS[MODEL])
    devices = [published(name, count, HOST_MEMORY) for name, count in MACHINES]
    rows = []
    for name, changes in CASES.items():
        asked = {"n_tokens": CALIBRATION, "evaluation_tokens": EVALUATION, "seq_len": SEQ_LEN, **changes}
        if asked.get("kind") != "analyze":
            asked["target_layers"] = TARGET
        config = RunConfig.model_validate({**asked, "dtype": "bfloat16", "device": "balanced"})
        found = [estimate(config, facts, device) for device in devices]
        roomy = estimate(config, facts, dataclasses.replace(devices[0], count=64))
        cells = [_cell(each, count) for each, (_, count) in zip(found, MACHINES, strict=True)]
        rows.append((name, human_bytes(roomy.memory_bytes), _passes(roomy, facts, config), *cells))
    heads = [f"{count} x {name}: hours (GPU-hours)" for name, count in MACHINES]
    return markdown(("", "GPU memory needed", "passes", *heads), rows)


def _passes(expected: Estimate, facts: Facts, config: RunConfig) -> str:
    """The method's or the analysis's time in plain passes of all layers over the calibration tokens."""
    clock = Clock(facts, expected.device, "bfloat16", SEQ_LEN, 1)
    stage = "measure" if config.kind == "analyze" else "compress"
    return f"{expected.seconds_by_stage[stage] / clock.layers(facts.layers, config.n_tokens):.1f}"


def _cell(expected: Estimate, count: int) -> str:
    hours = expected.seconds / 3600
    slow = ", weights partly in main memory" if expected.warnings else ""
    return f"{hours:.1f} ({count * hours:.0f}){slow}" if expected.fits or slow else "does not fit"
