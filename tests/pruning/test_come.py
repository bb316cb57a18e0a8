"""The progressive loop: the same as measuring everything anew each step, and what the options do."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Remove
from come.pruning.allocate import concatenation, ratio_from_influence
from come.pruning.windows import choose
from come.transforms.compatible import mixable_windows
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def straightforward(family: str, target: int, no_repeat: bool) -> list[Concatenate]:
    """Pairs, measured on the whole model before every step."""
    bundle, steps = tiny_bundle(family, layers=8), []
    stands_for = [1] * 8
    while len(bundle.layers) > target:
        seen = come.measure(bundle, TOKENS, similarity=())
        together = torch.tensor(mixable_windows(bundle, len(stands_for), 2))
        distances = seen.skip_influence.where(together, torch.inf)
        window = choose(distances, 2, [count > 1 for count in stands_for], no_repeat)
        pair = slice(window[0], window[1] + 1)
        ratio = ratio_from_influence(seen.block_influence[pair].tolist(), 1.0, 0.0, sum(stands_for[pair]))
        steps.append(
            concatenation(window, ratio, list(seen.kv_group_sensitivity[pair]), list(seen.mlp_sensitivity[pair]))
        )
        bundle = apply_step(bundle, steps[-1])
        stands_for[pair] = [sum(stands_for[pair])]
    return steps


@pytest.mark.parametrize("no_repeat", [True, False])
@pytest.mark.parametrize("family", CASES)
def test_running_only_what_changed_gives_the_plan_of_measuring_everything(family: str, no_repeat: bool) -> None:
    bundle = tiny_bundle(family, layers=8)
    before = weights_hash(bundle.model)
    result = come.compress(bundle, TOKENS, target_layers=3, no_repeat=no_repeat)
    assert result.plan.steps == straightforward(family, 3, no_repeat)
    assert weights_hash(bundle.model) == before
    assert len(result.bundle.layers) == result.plan.layers == 3


@pytest.mark.parametrize("budget", [0, 40_000, 1 << 30])
@pytest.mark.parametrize("span", [2, 3, 4])
def test_any_memory_budget_gives_the_same_result(span: int, budget: int) -> None:
    bundle = tiny_bundle(layers=9)
    results = [
        come.compress(bundle, TOKENS, target_layers=2, span=span, memory_budget=each, batch_size=4)
        for each in (budget, None)
    ]
    assert results[0].plan.steps == results[1].plan.steps
    assert [record.skip_influence for record in results[0].history] == [
        record.skip_influence for record in results[1].history
    ]
    assert weights_hash(results[0].bundle.model) == weights_hash(results[1].bundle.model)


def test_the_last_window_is_as_short_as_needed() -> None:
    result = come.compress(tiny_bundle(layers=8), TOKENS, target_layers=5, span=3)
    assert [last - first + 1 for first, last in (record.window for record in result.history)] == [3, 2]


def test_no_repeat_leaves_merged_layers_alone_until_no_other_is_left() -> None:
    bundle = tiny_bundle(layers=8)
    groups = come.compress(bundle, TOKENS, target_layers=5).plan.groups()
    assert max(map(len, groups)) == 2
    assert len(come.compress(bundle, TOKENS, target_layers=1).plan.groups()[0]) == 8


def test_nothing_to_merge_changes_no_bit() -> None:
    bundle = tiny_bundle()
    for options in ({"target_layers": 6}, {"sparsity": 0.0}, {"windows": []}):
        result = come.compress(bundle, TOKENS, **options)  # type: ignore[arg-type]
        assert result.plan.steps == []
        assert weights_hash(result.bundle.model) == bundle.fingerprint


def test_sparsity_is_turned_into_layers() -> None:
    bundle = tiny_bundle()
    result = come.compress(bundle, TOKENS, sparsity=0.3)
    assert 1 - result.bundle.parameters / bundle.parameters >= 0.3
    one_layer = sum(parameter.numel() for parameter in bundle.layers[0].parameters())
    assert 1 - (result.bundle.parameters + one_layer) / bundle.parameters < 0.3


def test_windows_by_hand_are_measured_on_the_original() -> None:
    bundle = tiny_bundle(layers=8)
    windows, ratios = [(5, 7), (1, 2)], [(0.2, 0.3, 0.5), None]
    result = come.compress(bundle, TOKENS, windows=windows, ratios=ratios)
    assert result.plan.groups() == [[0], [1, 2], [3], [4], [5, 6, 7]]
    assert [record.window for record in result.history] == [(1, 2), (4, 6)]
    assert result.history[1].ratio == (0.2, 0.3, 0.5)
    drafts = come.draft(come.measure(bundle, TOKENS), windows=windows, ratios=ratios)
    assert [(each.first, each.last) for each in drafts] == [(1, 2), (5, 7)]
    assert [each.kept_channels for each in drafts] == [step.channels for step in result.plan.steps]
    assert [each.kept_kv for each in drafts] == [step.kv_groups for step in result.plan.steps]


def test_layers_are_dropped_beside_windows_by_hand() -> None:
    bundle = tiny_bundle(layers=8)
    result = come.compress(bundle, TOKENS, windows=[(5, 6), (1, 2)], drop=[7, 3, 3, 0])
    assert result.plan.groups() == [[1, 2], [4], [5, 6]]
    merged = come.compress(bundle, TOKENS, windows=[(5, 6), (1, 2)])
    assert [record.measured for record in merged.history] == [(1, 2), (5, 6)]
    assert result.plan.steps[:2] == merged.plan.steps
    removed = result.plan.steps[2]
    assert isinstance(removed, Remove) and removed.layers == [0, 2, 5]
    assert [record.window for record in result.history] == [(1, 2), (4, 5), (0, 0), (2, 2), (5, 5)]
    rebuilt = replay(bundle, Plan.parse(result.plan.model_dump_json()))
    assert weights_hash(rebuilt.model) == weights_hash(result.bundle.model)
    kept = [merged.bundle.layers[layer] for layer in (1, 3, 4)]
    for ours, theirs in zip(result.bundle.layers, kept, strict=True):
        for parameter, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert torch.equal(parameter, other)


def test_an_interrupted_drop_goes_on_where_it_was() -> None:
    bundle = tiny_bundle()
    request = {"windows": [(0, 1), (3, 4)], "drop": [2]}
    plans: list[Plan] = []
    whole = come.compress(bundle, TOKENS, on_step=plans.append, **request)
    assert [len(plan.steps) for plan in plans] == [1, 2, 3]
    for plan in plans:
        again = come.compress(bundle, TOKENS, done=plan, **request)
        assert again.plan == whole.plan
        assert len(again.history) == 3 - len(plan.steps)


def test_dropping_alone_needs_no_window() -> None:
    bundle = tiny_bundle()
    result = come.compress(bundle, TOKENS, windows=[], drop=[4])
    assert result.plan.groups() == [[0], [1], [2], [3], [5]]
    assert result.plan.steps == Plan.parse(result.plan.model_dump_json()).steps


@pytest.mark.parametrize(
    ("windows", "drop", "words"),
    [
        ([(1, 2)], [2], "Layer 2 cannot be dropped and merged at once"),
        ([(1, 2)], [6], "There is no layer 6 in a model with layers 0 to 5"),
        ([(1, 2)], [-1], "There is no layer -1"),
        ([], list(range(6)), "No layer would be left"),
        ([(1, 2)], ["3"], "drop of come cannot be .'3'.. It takes a list of whole numbers"),
        ([(1, 2)], 3, "drop of come cannot be 3. It takes a list of whole numbers"),
        (None, [3], "Dropped layers go with windows by hand"),
    ],
)
def test_drops_that_cannot_be_are_one_sentence(windows: list | None, drop: object, words: str) -> None:
    target = {"target_layers": 4} if windows is None else {}
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, windows=windows, drop=drop, **target)


def test_a_draft_of_a_first_step_is_the_first_step() -> None:
    bundle = tiny_bundle(layers=8)
    (window,) = come.draft(come.measure(bundle, TOKENS), target_layers=7)
    (step,) = come.compress(bundle, TOKENS, target_layers=7).plan.steps
    assert (window.first, window.last) == step.window
    assert window.kept_channels == step.channels


@pytest.mark.parametrize("target", range(1, 8))
def test_a_draft_reaches_its_target(target: int) -> None:
    measurement = come.measure(tiny_bundle(layers=8), TOKENS, similarity=("cosine", "angular"))
    windows = come.draft(measurement, target_layers=target)
    assert 8 - sum(window.last - window.first for window in windows) == target
    for window in windows:
        assert sum(window.channels) == 48
        assert sum(window.kv_groups) == 4


def test_an_interrupted_run_goes_on_to_the_same_plan() -> None:
    bundle = tiny_bundle(layers=8)
    plans: list[Plan] = []
    whole = come.compress(bundle, TOKENS, target_layers=3, on_step=plans.append)
    assert [len(plan.steps) for plan in plans] == [1, 2, 3, 4, 5]
    for plan in plans:
        resumed = come.compress(bundle, TOKENS, target_layers=3, done=Plan.parse(plan.model_dump_json()))
        assert resumed.plan.model_dump_json() == whole.plan.model_dump_json()
        assert weights_hash(resumed.bundle.model) == weights_hash(whole.bundle.model)
    with pytest.raises(ComeError, match="another request"):
        come.compress(bundle, TOKENS, target_layers=2, done=plans[0])


@pytest.mark.parametrize("method", ["come", "shortgpt", "random"])
def test_a_plan_rebuilds_the_model_bit_for_bit(method: str) -> None:
    bundle = tiny_bundle("qwen2", layers=7)
    bundle.model.to(torch.bfloat16)
    result = come.compress(bundle, TOKENS, method, target_layers=4)
    plan = Plan.parse(result.plan.model_dump_json())
    assert plan == result.plan
    assert weights_hash(replay(bundle, plan).model) == weights_hash(result.bundle.model)


def test_a_plan_is_refused_by_other_weights() -> None:
    result = come.compress(tiny_bundle(seed=0), TOKENS, target_layers=5)
    with pytest.raises(ComeError, match="not those that the plan was made for"):
        replay(tiny_bundle(seed=1), result.plan)


def test_shortgpt_removes_the_layers_of_lowest_influence() -> None:
    bundle = tiny_bundle(layers=8)
    result = come.compress(bundle, TOKENS, "shortgpt", target_layers=5)
    influence = come.measure(bundle, TOKENS).block_influence
    (step,) = result.plan.steps
    assert isinstance(step, Remove)
    assert step.layers == sorted(influence.argsort()[:3].tolist())


def test_random_removal_follows_its_seed() -> None:
    bundle = tiny_bundle(layers=8)
    removed = [come.compress(bundle, TOKENS, "random", target_layers=4, seed=seed).plan.steps[0] for seed in (0, 0, 1)]
    assert removed[0] == removed[1] != removed[2]


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        ({}, "how far to prune"),
        ({"target_layers": 0}, "target of 0"),
        ({"target_layers": 7}, "target of 7"),
        ({"target_layers": 4, "sparsity": 0.2}, "cannot be given together"),
        ({"target_layers": 4, "windows": [(0, 1)]}, "cannot be given together"),
        ({"sparsity": 0.99}, "out of reach"),
        ({"sparsity": -1}, "makes no sense"),
        ({"windows": [(4, 6)]}, "does not fit"),
        ({"windows": [(2, 2)]}, "does not fit"),
        ({"windows": [(0, 2), (2, 3)]}, "overlap"),
        ({"windows": [(0, 1)], "ratios": [(0.5, 0.6)]}, "sum to 1"),
        ({"windows": [(0, 1)], "ratios": []}, "0 ratios for 1 windows"),
        ({"target_layers": 4, "ratios": [(0.5, 0.5)]}, "Ratios go with windows"),
        ({"target_layers": 4, "span": 9}, "span of 9"),
        ({"target_layers": 4, "floor": 2}, "floor"),
        ({"target_layers": 4, "exponent": -1}, "exponent"),
        ({"target_layers": 4, "expnent": 1}, "Did you mean exponent"),
        ({"target_layers": 4, "method": "shortgtp"}, "Did you mean shortgpt"),
    ],
)
def test_impossible_requests_get_one_sentence_and_run_nothing(request_: dict[str, Any], words: str) -> None:
    events: list[object] = []
    with pytest.raises(ComeError, match=words) as caught:
        come.compress(tiny_bundle(), TOKENS, on_progress=events.append, **request_)
    assert "\n" not in str(caught.value)
    assert not events


def test_progress_only_goes_up() -> None:
    shares: list[float] = []
    come.compress(
        tiny_bundle(layers=8), TOKENS, target_layers=4, on_progress=lambda event: shares.append(event.step / event.of)
    )
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_budget_too_small_for_one_border_is_refused() -> None:
    with pytest.raises(ComeError, match="does not hold the hidden states of one layer border"):
        come.compress(tiny_bundle(), TOKENS, target_layers=4, memory_budget=100)
