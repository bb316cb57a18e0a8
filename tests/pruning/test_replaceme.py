"""ReplaceMe: the map is the paper's, and the folded weights do what the map would."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import come
from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models import FAMILIES, Bundle, describe
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Remove
from come.pruning.compress import check_request, forecast
from come.pruning.method import Task
from come.pruning.methods.replaceme import ReplaceMeOptions, estimate, token_batches
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(8, 16)
FOLDABLE = [case for case in CASES if FAMILIES[case.partition(":")[0]].ffn_post_norm is None]
REFUSED = sorted(set(CASES) - set(FOLDABLE))


def around(bundle: Bundle, block: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """M, Y and what leaves the block, (tokens, hidden_size) each, float64: all tokens stacked."""
    family, runner, seen = bundle.family, LayerRunner(bundle), []
    path = runner.layers[block[0] - 1].get_submodule(family.ffn_output)
    path.register_forward_hook(lambda _module, _args, output: seen.append(output.clone()))  # Falcon adds to it in place
    with torch.no_grad():
        states = runner.enter(TOKENS)
        for layer in range(block[-1] + 1):
            states = runner.run(layer, states)
            if layer == block[0] - 1:
                below = states
    given = family.multiplier(bundle.layers[block[0] - 1]) * seen[0].reshape(below.shape)
    return tuple(each.reshape(-1, 32).double() for each in (given, below - given, states))  # type: ignore[return-value]


def removed(plan: Plan) -> list[int]:
    step = plan.steps[0]
    assert isinstance(step, Remove)
    return step.layers


def task(bundle: Bundle, target: int) -> Task:
    plan = come.compress(bundle, TOKENS, "replaceme", target_layers=len(bundle.layers)).plan
    return Task(bundle, bundle, plan, TOKENS, target)


@pytest.mark.parametrize("family", FOLDABLE)
def test_least_squares_is_least_squares(family: str) -> None:
    bundle = tiny_bundle(family)
    given, rest, wanted = around(bundle, [3, 4])
    expected = torch.linalg.lstsq(given, wanted - rest).solution
    found, _ = estimate(task(bundle, 4), ReplaceMeOptions(objective="lstsq", ridge=0.0), [3, 4])
    torch.testing.assert_close(given @ found, given @ expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found, expected, rtol=5e-2, atol=5e-3)


def test_the_ridge_draws_towards_plain_removal() -> None:
    bundle = tiny_bundle()
    given, rest, wanted = around(bundle, [2])
    ridge = 0.1 * given.square().sum(0).mean()
    lacking = wanted - rest - given
    change = torch.linalg.solve(given.T @ given + ridge * torch.eye(32).double(), given.T @ lacking)
    found, note = estimate(task(bundle, 5), ReplaceMeOptions(objective="lstsq", ridge=0.1), [2])
    torch.testing.assert_close(found, torch.eye(32).double() + change, rtol=1e-4, atol=1e-5)
    told = [float(each) for each in re.findall(r"\d\.\d{4}", note)]
    after = lacking - given @ change
    expected = [float(each.square().sum() / wanted.square().sum()) for each in (lacking, after)]
    assert told == pytest.approx(expected, abs=2e-4)
    far, _ = estimate(task(bundle, 5), ReplaceMeOptions(objective="lstsq", ridge=1e9), [2])
    torch.testing.assert_close(far, torch.eye(32).double(), rtol=0, atol=1e-6)


def test_the_cosine_distance_falls_and_is_the_mean_over_tokens() -> None:
    bundle = tiny_bundle()
    given, rest, wanted = around(bundle, [2, 3])

    def distance(linear: Tensor) -> float:
        return float(1 - torch.nn.functional.cosine_similarity(rest + given @ linear, wanted, dim=-1).mean())

    options = {"steps": 60, "learning_rate": 1e-2}
    found, note = estimate(task(bundle, 4), ReplaceMeOptions(**options), [2, 3])
    told = [float(each) for each in re.findall(r"\d\.\d{4}", note)]
    assert told == pytest.approx([distance(torch.eye(32).double()), distance(found)], abs=1e-4)
    assert told[1] < 0.8 * told[0]
    again, _ = estimate(task(bundle, 4), ReplaceMeOptions(**options), [2, 3])
    assert torch.equal(found, again)
    longer, _ = estimate(task(bundle, 4), ReplaceMeOptions(**{**options, "steps": 120}), [2, 3])
    assert distance(longer) < distance(found)


def test_a_step_of_adam_is_what_pytorch_makes_of_the_distance() -> None:
    bundle = tiny_bundle()
    given, rest, wanted = (each.float() for each in around(bundle, [2]))
    linear = torch.eye(32, requires_grad=True)
    loss = 1 - torch.nn.functional.cosine_similarity(rest + given @ linear, wanted, dim=-1).mean()
    loss.backward()
    assert linear.grad is not None
    found, _ = estimate(task(bundle, 5), ReplaceMeOptions(steps=1, learning_rate=1e-3), [2])
    large = linear.grad.abs() > 1e-5  # Adam's first step is the sign of the gradient
    expected = torch.eye(32) - 1e-3 * linear.grad.sign()
    torch.testing.assert_close(found.float()[large], expected[large], rtol=0, atol=2e-5)


@pytest.mark.parametrize("objective", ["lstsq", "cosine"])
@pytest.mark.parametrize("family", FOLDABLE)
def test_the_folded_weights_do_what_the_map_would(family: str, objective: str) -> None:
    bundle = tiny_bundle(family)
    options: dict[str, Any] = {"objective": objective, "steps": 5, "learning_rate": 1e-2}
    result = come.compress(bundle, TOKENS, "replaceme", target_layers=4, **options)
    block = removed(result.plan)
    linear, _ = estimate(task(bundle, 4), ReplaceMeOptions(**options), block)
    explicit = apply_step(bundle, Remove(layers=block))
    output = explicit.layers[block[0] - 1].get_submodule(bundle.family.ffn_output)

    def hook(_module: nn.Module, _args: Any, given: Tensor) -> Tensor:
        return given @ linear.float()

    handle = output.register_forward_hook(hook)
    with torch.inference_mode():
        expected = explicit.model(TOKENS, use_cache=False).logits
        handle.remove()
        without = explicit.model(TOKENS, use_cache=False).logits
        found = result.bundle.model(TOKENS, use_cache=False).logits
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert (found - without).abs().max() > 10 * (found - expected).abs().max()


@pytest.mark.parametrize("objective", ["lstsq", "cosine"])
def test_it_rebuilds_and_resumes_bit_for_bit(objective: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(layers=8)
    before = weights_hash(bundle.model)
    plans: list[Plan] = []
    options: dict[str, Any] = {"objective": objective, "steps": 5}
    result = come.compress(bundle, TOKENS, "replaceme", target_layers=6, on_step=plans.append, **options)
    assert weights_hash(bundle.model) == before
    assert [step.kind for step in result.plan.steps] == ["remove", "replace"]
    assert len(result.history) == 2 and result.bundle.plan == result.plan == plans[-1]
    result.plan.write(tmp_path / "plan.json")
    assert weights_hash(replay(bundle, Plan.read(tmp_path / "plan.json")).model) == weights_hash(result.bundle.model)
    for done in (plans[0], Plan.read(tmp_path / "plan.json")):
        again = come.compress(bundle, TOKENS, "replaceme", target_layers=6, done=done, **options)
        assert again.plan == result.plan
        assert weights_hash(again.bundle.model) == weights_hash(result.bundle.model)


def silent(bundle: Bundle, *layers: int) -> Bundle:
    """The model with layers that add nothing to the hidden states."""
    with torch.no_grad():
        for layer in layers:
            for path in (bundle.family.attention_output, bundle.family.ffn_output):
                for parameter in bundle.layers[layer].get_submodule(path).parameters():
                    parameter.zero_()
    return bundle


def test_the_block_that_changes_least_goes_but_never_the_lowest_layer(tmp_path: Path) -> None:
    assert removed(come.compress(silent(tiny_bundle(), 3, 4), TOKENS, "replaceme", target_layers=4).plan) == [3, 4]
    lowest = silent(tiny_bundle(), 0)
    assert removed(come.compress(lowest, TOKENS, "replaceme", target_layers=5).plan) != [0]
    nothing = come.compress(
        silent(tiny_bundle(), 3), TOKENS, "replaceme", target_layers=5, objective="lstsq", ridge=1e-3
    )
    plain = apply_step(silent(tiny_bundle(), 3), Remove(layers=[3]))
    for (name, new), old in zip(nothing.bundle.model.named_parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-5, atol=1e-6, msg=name)


def test_it_is_foreseen_from_an_analysis(tmp_path: Path) -> None:
    folder = str(tiny_folder(tmp_path))
    bundle, facts = come.load(folder), describe(folder)
    seen = come.measure(bundle, TOKENS, similarity=("cosine",), last_state="raw")
    for target in (2, 4, 5):
        found = forecast("replaceme", {}, target, facts, seen)
        assert found is not None and not found.doubt
        plan = come.compress(bundle, TOKENS, "replaceme", target_layers=target, steps=1).plan
        assert found.removed == removed(plan)
    assert forecast("replaceme", {}, 4, facts, None) is None


@pytest.mark.parametrize("family", REFUSED)
def test_where_a_norm_follows_the_ffn_it_is_refused_in_a_sentence(family: str, tmp_path: Path) -> None:
    with pytest.raises(ComeError, match="a norm comes after that"):
        come.compress(tiny_bundle(family), TOKENS, "replaceme", target_layers=5)
    with pytest.raises(ComeError, match="a norm comes after that"):
        check_request(describe(str(tiny_folder(tmp_path, family))), "replaceme", 5)


def test_too_few_tokens_for_a_map_are_refused() -> None:
    with pytest.raises(ComeError, match="28 calibration tokens do not determine a linear map of 32 channels"):
        come.compress(tiny_bundle(), TOKENS[:2, :14], "replaceme", target_layers=5, objective="lstsq", ridge=0.0)


def test_every_token_is_looked_at_before_any_is_again() -> None:
    batches = list(token_batches(2500, 5, 3))
    assert [len(rows) for rows in batches] == [1024, 1024, 452, 1024, 1024]
    assert torch.equal(torch.cat(batches[:3]).sort().values, torch.arange(2500))
    assert all(torch.equal(*pair) for pair in zip(batches, token_batches(2500, 5, 3), strict=True))
    assert not torch.equal(batches[0], next(token_batches(2500, 1, 4)))
