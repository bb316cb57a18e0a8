"""Prune&Comp: the layers that go, the factor, and that folding it is the same as multiplying hidden states."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import come
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.provenance import follow, retouched
from come.plan.steps import Remove, Scale
from come.plan.trace import trace
from come.pruning.methods.prune_comp import growth
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def without_eps(bundle: Bundle) -> Bundle:
    """The model with norms that take any size back exactly."""
    for module in bundle.model.modules():
        for name in ("eps", "variance_epsilon"):
            if hasattr(module, name):
                setattr(module, name, 1e-12)
    return bundle


def logits(bundle: Bundle) -> Tensor:
    with torch.inference_mode():
        return bundle.model(TOKENS, use_cache=False).logits.float()  # type: ignore[no-any-return]


@pytest.mark.parametrize("factor", [1.4, 0.7])
@pytest.mark.parametrize("family", CASES)
def test_the_folded_factor_multiplies_what_enters_the_layer(family: str, factor: float) -> None:
    bundle = without_eps(tiny_bundle(family))
    before = weights_hash(bundle.model)
    plain = logits(bundle)

    def multiply(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return (factor * args[0], *args[1:])

    handle = bundle.layers[3].register_forward_pre_hook(multiply)
    expected = logits(bundle)
    handle.remove()
    found = logits(apply_step(bundle, Scale(layer=3, factor=factor)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert (found - plain).abs().max() > 20 * (found - expected).abs().max()
    assert weights_hash(bundle.model) == before


@pytest.mark.parametrize("family", CASES)
def test_the_lower_layers_embeddings_and_head_are_left_alone(family: str) -> None:
    bundle = tiny_bundle(family)
    scaled = apply_step(bundle, Scale(layer=4, factor=1.5))
    above = tuple(f"{bundle.family.layers}.{layer}." for layer in (4, 5))
    old = dict(bundle.model.named_parameters())
    assert all(value is old[name] or name.startswith(above) for name, value in scaled.model.named_parameters())
    twice = apply_step(scaled, Scale(layer=4, factor=1 / 1.5))
    for name, value in twice.model.named_parameters():
        torch.testing.assert_close(value, old[name], rtol=1e-5, atol=1e-6)


def test_alpha_is_the_mean_growth_of_a_layer() -> None:
    bundle = tiny_bundle()
    with torch.inference_mode():
        states = bundle.model(TOKENS, output_hidden_states=True).hidden_states
    for layer in range(5):  # the last state is reported after the final norm
        expected = (states[layer + 1].norm(dim=-1) / states[layer].norm(dim=-1)).mean()
        assert growth(bundle, TOKENS, layer, batch_size=4) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("family", CASES)
def test_layers_go_by_influence_measured_again_and_are_made_up_for(family: str) -> None:
    """The same, slowly: the whole model for every step."""
    bundle = tiny_bundle(family)
    result = come.compress(bundle, TOKENS, "prune-comp", target_layers=3, batch_size=4)
    steps = iter(result.plan.steps)
    for record in result.history:
        with torch.inference_mode():
            states = bundle.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states
        cosines = [
            torch.nn.functional.cosine_similarity(below, above, dim=-1).clamp(0, 1)
            for below, above in itertools.pairwise(states)
        ]
        influence = [float((1 - each).mean()) for each in cosines]
        layer = min(range(len(influence)), key=influence.__getitem__)
        assert record.window == (layer, layer)
        assert record.block_influence == pytest.approx(influence, abs=1e-5)
        removal = next(steps)
        assert removal == Remove(layers=[layer])
        last = layer == len(bundle.layers) - 1
        factor = growth(bundle, TOKENS, layer)
        bundle = apply_step(bundle, removal)
        if not last:
            step = next(steps)
            assert isinstance(step, Scale) and step.layer == layer
            assert step.factor == pytest.approx(factor, rel=1e-5)
            bundle = apply_step(bundle, step)
    assert next(steps, None) is None
    assert weights_hash(bundle.model) == weights_hash(result.bundle.model)


@pytest.mark.parametrize("importance", ["block-influence", "loss"])
def test_it_rebuilds_and_resumes_bit_for_bit(importance: str) -> None:
    bundle = tiny_bundle(layers=8)
    before = weights_hash(bundle.model)
    plans: list[Plan] = []
    events: list[int] = []
    result = come.compress(
        bundle,
        TOKENS,
        "prune-comp",
        target_layers=5,
        importance=importance,
        on_step=plans.append,
        on_progress=lambda event: events.append(event.step),
    )
    assert weights_hash(bundle.model) == before
    assert events == sorted(events) and events[-1] == 1000
    assert len(result.history) == 3 and result.bundle.plan == result.plan == plans[-1]
    read = Plan.parse(result.plan.model_dump_json())
    assert read == result.plan
    assert weights_hash(replay(bundle, read).model) == weights_hash(result.bundle.model)
    for plan in plans:
        again = come.compress(bundle, TOKENS, "prune-comp", target_layers=5, importance=importance, done=plan)
        assert again.plan == result.plan
        assert weights_hash(again.bundle.model) == weights_hash(result.bundle.model)
    milder = come.compress(bundle, TOKENS, "prune-comp", target_layers=6, importance=importance)
    assert milder.plan.steps == result.plan.steps[: len(milder.plan.steps)], "a sweep goes on from it"


@pytest.mark.parametrize("importance", ["block-influence", "loss"])
def test_any_memory_budget_gives_the_same(importance: str) -> None:
    bundle, one = tiny_bundle(layers=8), TOKENS.numel() * 32 * 4
    plans = [
        come.compress(
            bundle, TOKENS, "prune-comp", target_layers=5, importance=importance, memory_budget=budget, batch_size=4
        ).plan.steps
        for budget in (None, 0, 3 * one)
    ]
    assert plans[0] == plans[1] == plans[2]


def test_by_loss_the_first_removal_is_that_of_sleb() -> None:
    bundle = tiny_bundle()
    ours = come.compress(bundle, TOKENS, "prune-comp", target_layers=5, importance="loss")
    theirs = come.compress(bundle, TOKENS, "sleb", target_layers=5)
    assert ours.plan.steps[0] == theirs.plan.steps[0]


def test_a_layer_that_adds_nothing_leaves_the_logits() -> None:
    bundle = tiny_bundle()
    with torch.no_grad():
        for path in (bundle.family.attention_output, bundle.family.ffn_output):
            bundle.layers[2].get_submodule(path).weight.zero_()
    result = come.compress(bundle, TOKENS, "prune-comp", target_layers=5)
    assert result.plan.steps == [Remove(layers=[2]), Scale(layer=2, factor=1.0)]
    torch.testing.assert_close(logits(result.bundle), logits(bundle))


def test_above_the_last_layer_there_is_nothing_to_make_up_for() -> None:
    bundle = tiny_bundle()
    with torch.no_grad():
        for path in (bundle.family.attention_output, bundle.family.ffn_output):
            bundle.layers[5].get_submodule(path).weight.zero_()
    result = come.compress(bundle, TOKENS, "prune-comp", target_layers=5, last_state="raw")
    assert result.plan.steps == [Remove(layers=[5])]


def test_a_plan_says_the_factor_and_refuses_a_layer_that_is_not_there() -> None:
    plan = come.compress(tiny_bundle(), TOKENS, "prune-comp", target_layers=6).plan
    below = plan.with_step(Remove(layers=[1]))
    assert "enter layer 1 by 1.2346" in Scale(layer=1, factor=1.23456).describe()
    with pytest.raises(come.ComeError, match="names layer 5 of a model that has 5"):
        Plan.parse(below.with_step(Scale(layer=5, factor=2.0)).model_dump_json())
    for factor in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="factor"):
            Scale(layer=1, factor=factor)


def test_a_reader_is_told_which_layers_were_scaled() -> None:
    plan = come.compress(tiny_bundle(), TOKENS, "prune-comp", target_layers=6).plan
    scaled = plan.with_step(Remove(layers=[1])).with_step(Scale(layer=3, factor=1.1))
    assert retouched(scaled) == {3: [1], 4: [1]}
    assert follow(scaled, "ffn", 48).steps == ["remove", "scale"]
    assert trace(scaled, "ffn", 4, 7).fate == "kept"
