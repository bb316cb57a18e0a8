"""A model larger than the memory it is allowed: its layers stay on disk, and everything comes out the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.models import Bundle
from come.models.bundle import weights_hash
from come.models.offload import is_offloaded
from tests.tiny import tiny_folder, tiny_tokens

TOKENS = tiny_tokens(6, 16)


@pytest.fixture(params=["llama", "qwen3", "opt", "gpt2"])
def both(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Bundle, Bundle]:
    """The same model, out of memory and in it."""
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    folder = tiny_folder(tmp_path, request.param)
    outside = come.load(folder, device="balanced", max_memory={"cpu": "60KB"})
    assert is_offloaded(outside.model)
    return outside, come.load(folder, device="cpu")


def test_it_is_measured_and_judged_as_in_memory(both: tuple[Bundle, Bundle]) -> None:
    outside, inside = both
    assert outside.fingerprint == inside.fingerprint
    theirs, ours = come.measure(inside, TOKENS), come.measure(outside, TOKENS)
    assert torch.equal(ours.block_influence, theirs.block_influence)
    assert torch.equal(ours.mlp_sensitivity, theirs.mlp_sensitivity)
    assert come.perplexity(outside, TOKENS) == come.perplexity(inside, TOKENS)


def test_it_is_merged_and_saved_as_in_memory(both: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    outside, inside = both
    for method in ("come", "shortgpt"):
        theirs, ours = (come.compress(bundle, TOKENS, method, target_layers=3) for bundle in (inside, outside))
        assert ours.plan.steps == theirs.plan.steps
        assert weights_hash(ours.bundle.model) == weights_hash(theirs.bundle.model)
        saved = AutoModelForCausalLM.from_pretrained(come.save(ours.bundle, tmp_path / method))
        assert weights_hash(saved) == weights_hash(theirs.bundle.model)
    assert weights_hash(outside.model) == outside.fingerprint
    with pytest.raises(ComeError, match="own dtype only"):
        come.save(outside, tmp_path / "half", dtype="bfloat16")
