"""Steps that CoMe does not take itself: averages, masks, weights put in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Average, Mask, Remove, Replace
from come.transforms.mask import mask
from come.transforms.rebuild import apply_step, base_of, replay, with_plan
from tests.tiny import CASES, tiny_bundle, tiny_tokens


def plan_of(bundle: come.Bundle) -> Plan:
    return Plan(base=base_of(bundle), dtype="float32", method="by hand")


@pytest.mark.parametrize("family", [case for case in CASES if case != "gemma2"])
def test_an_average_is_the_weighted_sum_of_all_parameters(family: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    made = apply_step(bundle, Average(window=(0, 1), weights=[0.25, 0.75]))
    assert len(made.layers) == 5
    first, second = (dict(layer.named_parameters()) for layer in list(bundle.layers)[:2])
    for name, parameter in made.layers[0].named_parameters():
        assert torch.equal(parameter, 0.25 * first[name] + 0.75 * second[name]), name
    assert weights_hash(bundle.model) == before
    made.model(input_ids=tiny_tokens())


def test_layers_that_attend_in_different_ways_are_not_averaged() -> None:
    with pytest.raises(ComeError, match="attend in different ways"):
        apply_step(tiny_bundle("gemma2"), Average(window=(0, 1), weights=[0.5, 0.5]))


def test_summed_differences_are_an_average() -> None:
    bundle = tiny_bundle()
    made = apply_step(bundle, Average(window=(1, 3), weights=[-1.0, 1.0, 1.0]))
    thetas = [dict(layer.named_parameters()) for layer in list(bundle.layers)[1:4]]
    for name, parameter in made.layers[1].named_parameters():
        summed = thetas[0][name] + (thetas[1][name] - thetas[0][name]) + (thetas[2][name] - thetas[0][name])
        assert torch.allclose(parameter, summed, atol=1e-6)


@pytest.mark.parametrize("family", CASES)
def test_a_silenced_sub_layer_adds_nothing(family: str) -> None:
    bundle = tiny_bundle(family)
    shape = bundle.shape
    before = weights_hash(bundle.model)
    step = mask(bundle, {2: list(range(shape.kv_heads))}, {2: list(range(shape.channels))})
    made = apply_step(bundle, step)
    without = apply_step(bundle, Remove(layers=[2]))
    tokens = tiny_tokens()
    assert torch.allclose(made.model(input_ids=tokens).logits, without.model(input_ids=tokens).logits, atol=1e-5)
    assert weights_hash(bundle.model) == before
    plan = plan_of(bundle).with_step(step)
    assert with_plan(made, plan).parameters == bundle.parameters - step.parameters
    norms = sum(parameter.numel() for path in bundle.family.norm_paths for parameter in _norm(bundle.layers[2], path))
    assert bundle.parameters - without.parameters - norms == step.parameters


def _norm(layer: torch.nn.Module, path: str) -> list[torch.Tensor]:
    try:
        return list(layer.get_submodule(path).parameters())
    except AttributeError:
        return []


def test_a_silenced_channel_is_a_zero_column() -> None:
    bundle = tiny_bundle()
    step = mask(bundle, {0: [1]}, {0: [3, 5], 4: [0]})
    made = apply_step(bundle, step)
    changed = made.layers[0].mlp.down_proj.weight
    assert (changed[:, [3, 5]] == 0).all()
    keep = [channel for channel in range(48) if channel not in (3, 5)]
    assert torch.equal(changed[:, keep], bundle.layers[0].mlp.down_proj.weight[:, keep])
    assert (made.layers[0].self_attn.o_proj.weight[:, 8:16] == 0).all()
    assert made.layers[1].mlp.down_proj.weight is bundle.layers[1].mlp.down_proj.weight
    hidden, head = 32, 4
    group = 2 * head * hidden + 2 * (2 * head * hidden)  # k and v; q and o of two heads
    assert step.parameters == 3 * 3 * hidden + group


def test_weights_that_are_put_in_place_travel_beside_the_plan(tmp_path: Path) -> None:
    bundle = tiny_bundle("qwen2")  # tied embeddings
    tensors = {
        "model.layers.1.mlp.down_proj.weight": torch.randn(32, 48),
        "model.embed_tokens.weight": torch.randn(128, 32),
    }
    plan = plan_of(bundle).with_step(Remove(layers=[0])).with_tensors(tensors, "a test")
    made = replay(bundle, plan)
    assert torch.equal(made.layers[1].mlp.down_proj.weight, tensors["model.layers.1.mlp.down_proj.weight"])
    assert made.model.lm_head.weight is made.model.model.embed_tokens.weight
    assert weights_hash(bundle.model) == plan.base.fingerprint
    plan.write(tmp_path / "plan.json")
    read = Plan.read(tmp_path / "plan.json")
    assert read == plan
    assert weights_hash(replay(bundle, read).model) == weights_hash(made.model)

    (other := tmp_path / "other").mkdir()
    read.write(other / "plan.json")
    assert weights_hash(replay(bundle, Plan.read(other / "plan.json")).model) == weights_hash(made.model)
    (file,) = other.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(ComeError, match="not those that the plan was written with"):
        replay(bundle, Plan.read(other / "plan.json"))
    file.unlink()
    with pytest.raises(ComeError, match="not beside it"):
        replay(bundle, Plan.read(other / "plan.json"))


def test_weights_for_another_model_are_refused() -> None:
    bundle = tiny_bundle()
    for name, value in (
        ("model.layers.9.mlp.down_proj.weight", torch.zeros(32, 48)),
        ("lm_head.weight", torch.zeros(3)),
    ):
        with pytest.raises(ComeError, match="does not have in that shape"):
            replay(bundle, plan_of(bundle).with_tensors({name: value}))


def test_steps_that_make_no_sense_are_refused() -> None:
    for make in (
        lambda: Average(window=(1, 1), weights=[1.0]),
        lambda: Average(window=(1, 2), weights=[0.5, 0.6]),
        lambda: Mask(kv_groups={}, channels={}, parameters=0),
        lambda: Mask(channels={0: [2, 1]}, parameters=0),
        lambda: Replace(file="../weights.safetensors", sha256="", tensors=["a"]),
        lambda: Replace(file="weights.bin", sha256="", tensors=["a"]),
    ):
        with pytest.raises(ValidationError):
            make()
    bundle = tiny_bundle()
    with pytest.raises(ComeError, match="does not have"):
        mask(bundle, {}, {0: [48]})
    silenced = plan_of(bundle).with_step(mask(bundle, {}, {0: [0]}))
    with pytest.raises(ComeError, match="after some of their units were silenced"):
        Plan.parse(silenced.with_step(Remove(layers=[0])).model_dump_json())
