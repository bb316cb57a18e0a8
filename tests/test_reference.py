"""Exactness against what the published reference decided and produced, where its faults do not show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import come
from come.plan.plan import Plan
from come.transforms.rebuild import replay

REFERENCE = Path(__file__).parents[1].parent / "shared" / "reference"

pytestmark = pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference tensors are not on this machine")


@pytest.fixture(scope="module", params=["llama", "qwen3"])
def case(request: pytest.FixtureRequest) -> dict[str, Any]:
    folder = REFERENCE / request.param
    bundle = come.load(folder / "model", dtype="float32")
    told = json.loads((folder / "steps.json").read_text())
    tensors = load_file(folder / "tensors.safetensors")
    result = come.compress(
        bundle,
        tensors["tokens"],
        target_layers=told["target_layers"],
        span=told["span"],
        exponent=told["exponent"],
        floor=told["floor"],
        no_repeat=False,
        sbi_tokens="last",
    )
    return {
        "bundle": bundle,
        "steps": told["steps"],
        "tensors": tensors,
        "result": result,
        "merged": load_file(folder / "merged.safetensors"),
    }


def test_every_step_takes_the_same_window_by_the_same_ratio(case: dict[str, Any]) -> None:
    assert len(case["result"].history) == len(case["steps"])
    for record, step in zip(case["result"].history, case["steps"], strict=True):
        assert list(record.window) == step["layers"]
        assert record.ratio == pytest.approx(step["ratio"], abs=1e-6)
        assert record.block_influence == pytest.approx(step["block_influence"], rel=1e-5)
        assert record.skip_influence == pytest.approx(step["skip_influence_last_token"], rel=1e-5)


def test_sensitivities_agree_at_every_step(case: dict[str, Any]) -> None:
    plan: Plan = case["result"].plan
    for number in range(len(case["steps"])):
        bundle = replay(case["bundle"], plan.model_copy(update={"steps": plan.steps[:number]}))
        measurement = come.measure(bundle, case["tensors"]["tokens"], similarity=())
        for layer in range(measurement.layers):
            for name, ours in (
                ("mlp_sensitivity", measurement.mlp_sensitivity),
                ("kv_group_sensitivity", measurement.kv_group_sensitivity),
            ):
                theirs = case["tensors"][f"step{number}.{name}.{layer}"]
                torch.testing.assert_close(ours[layer], theirs, rtol=1e-5, atol=0)


def test_merged_weights_and_logits_agree(case: dict[str, Any]) -> None:
    model = case["result"].bundle.model
    ours = model.state_dict()
    assert set(case["merged"]) == set(ours)
    for name, theirs in case["merged"].items():
        torch.testing.assert_close(ours[name], theirs, rtol=0, atol=2e-7)
    tokens = case["tensors"]["tokens"][:2]
    with torch.inference_mode():
        for bundle_model, name in ((case["bundle"].model, "original_logits"), (model, "merged_logits")):
            torch.testing.assert_close(bundle_model(tokens).logits, case["tensors"][name], rtol=0, atol=1e-4)
