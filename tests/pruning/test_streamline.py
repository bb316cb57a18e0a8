"""LLM-Streamline: the block it takes, and the layer that it trains."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import come
import come.pruning.methods.streamline
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Remove, Replace
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(24, 16)
QUICK = {"steps": 6, "lr": 3e-3, "batch_tokens": 64, "check_every": 2, "precision": "float32"}


@pytest.mark.parametrize("family", CASES)
def test_a_block_becomes_one_trained_layer(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, "streamline", target_layers=4, on_step=plans.append, **QUICK)
    assert weights_hash(bundle.model) == before
    removed, replaced = result.plan.steps
    assert isinstance(removed, Remove)
    assert isinstance(replaced, Replace)
    cosines = come.measure(bundle, TOKENS, last_state="raw", similarity=("cosine",)).similarity["cosine"]
    first = int(torch.stack([cosines[layer, layer + 3] for layer in range(4)]).argmax())
    assert removed.layers == [first + 1, first + 2]
    assert all(name.startswith(f"{bundle.family.layers}.{first}.") for name in replaced.tensors)
    result.plan.write(tmp_path / "plan.json")
    again = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)
    assert "light layer" in result.plan.notes[-1]
    resumed = come.compress(bundle, TOKENS, "streamline", target_layers=4, done=plans[0], **QUICK)
    assert weights_hash(resumed.bundle.model) == weights_hash(result.bundle.model)


def test_the_light_layer_is_better_than_its_start() -> None:
    bundle = tiny_bundle()
    trained = come.compress(bundle, TOKENS, "streamline", target_layers=4, **QUICK | {"steps": 60})
    removed = come.compress(bundle, TOKENS, "streamline", target_layers=4, **QUICK | {"lr": 1e-12})
    wanted, good, bad = (each.model(TOKENS).logits.detach() for each in (bundle, trained.bundle, removed.bundle))
    assert (good - wanted).norm() < 0.9 * (bad - wanted).norm()


def test_one_sequence_is_too_few() -> None:
    with pytest.raises(ComeError, match="hold out"):
        come.compress(tiny_bundle(), TOKENS[:1], "streamline", target_layers=4)
