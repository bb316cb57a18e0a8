"""A model larger than the memory it is allowed: its layers stay on disk, and everything comes out the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.bundle import weights_hash
from come.models.depth import share
from come.models.offload import bring_in, is_offloaded
from come.transforms.mask import mask
from come.transforms.rebuild import apply_step
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


def test_only_output_maps_that_are_silenced_come_into_memory(both: tuple[Bundle, Bundle]) -> None:
    outside, inside = both
    step = mask(outside, {5: [0]}, {5: [1]})
    theirs, ours = apply_step(inside, step), apply_step(outside, step)
    assert come.perplexity(ours, TOKENS) == come.perplexity(theirs, TOKENS)
    maps = (outside.family.attention_output, outside.family.ffn_output)
    here = {name for name, each in ours.layers[5].named_parameters() if each.device.type != "meta"}
    assert here == {
        f"{path}.{name}" for path in maps for name, _ in inside.layers[5].get_submodule(path).named_parameters()
    }


def test_what_is_brought_in_has_its_weights(both: tuple[Bundle, Bundle]) -> None:
    outside, inside = both
    layer = share(outside.layers[5])
    bring_in(layer)
    weights = dict(layer.named_parameters())
    assert all(torch.equal(weights[name], each) for name, each in inside.layers[5].named_parameters())


def test_it_is_merged_and_saved_as_in_memory(both: tuple[Bundle, Bundle], tmp_path: Path) -> None:
    outside, inside = both
    for number, (method, options) in enumerate(
        (
            ("come", {}),
            ("shortgpt", {}),
            ("prune-comp", {}),
            ("finercut", {}),
            ("fisher", {"tune": False}),
            ("come", {"select": "kl", "sensitivity": "fisher"}),
        )
    ):
        theirs, ours = (
            come.compress(bundle, TOKENS, method, target_layers=3, **options) for bundle in (inside, outside)
        )
        assert ours.plan.steps == theirs.plan.steps
        assert weights_hash(ours.bundle.model) == weights_hash(theirs.bundle.model)
        saved = AutoModelForCausalLM.from_pretrained(come.save(ours.bundle, tmp_path / f"{number}"))
        assert weights_hash(saved) == weights_hash(theirs.bundle.model)
    assert weights_hash(outside.model) == outside.fingerprint
    with pytest.raises(ComeError, match="own dtype only"):
        come.save(outside, tmp_path / "half", dtype="bfloat16")


@pytest.mark.parametrize(
    ("method", "options", "word"),
    [
        ("streamline", {}, "trains a layer"),
        ("come", {"refit": True}, "refit"),
        ("come-p", {"refit": True}, "refit"),
        ("shortgpt", {"refit": True}, "refit"),
        ("sleb", {"refit": True}, "refit"),
        ("replaceme", {}, "puts new weights in place"),
        ("come-joint", {}, "puts new weights in place"),
        ("auto", {}, "puts new weights in place"),
        ("fisher", {}, "tune"),
    ],
)
def test_what_it_does_not_allow_is_refused_before_any_work(
    both: tuple[Bundle, Bundle], monkeypatch: pytest.MonkeyPatch, method: str, options: dict[str, bool], word: str
) -> None:
    def run(*_: object) -> None:
        raise AssertionError("a layer was run")

    monkeypatch.setattr(LayerRunner, "run", run)
    with pytest.raises(ComeError, match=f"{word}.* outside of memory"):
        come.compress(both[0], TOKENS, method, target_layers=3, **options)
