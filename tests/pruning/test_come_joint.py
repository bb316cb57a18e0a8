"""CoMe-Joint: plans rebuild bit for bit and go on where they stopped; no step is worse than a removal it tried."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import come
from come.errors import ComeError
from come.events import Event
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import entering_window
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Remove
from come.pruning.cheapest import Change
from come.pruning.joint import joint_candidates
from come.pruning.joint_rules import JointRules
from come.pruning.registry import method_for
from come.pruning.sweep import is_swept
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

QUICK = {"scoring_tokens": 64, "layers_tried": 6, "windows_tried": 2}


@pytest.mark.parametrize("family", CASES)
def test_every_family_is_merged_and_rebuilt(family: str, tmp_path: Path) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=4, **QUICK)
    assert len(result.bundle.layers) == 4
    result.plan.write(tmp_path / "plan.json")
    again = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)


def test_a_plan_goes_on_where_it_stopped() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    plans: list[Plan] = []
    whole = come.compress(bundle, tokens, "come-joint", target_layers=3, span=2, on_step=plans.append, **QUICK)
    assert [plan.layers for plan in plans[:3]] == [5, 4, 3]
    for stopped in plans:
        resumed = come.compress(bundle, tokens, "come-joint", target_layers=3, span=2, done=stopped, **QUICK)
        assert resumed.plan.model_dump_json() == whole.plan.model_dump_json()
        assert weights_hash(resumed.bundle.model) == weights_hash(whole.bundle.model)


@pytest.mark.parametrize("score", ["kl", "loss"])
def test_no_step_scores_worse_than_a_removal(score: str) -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=5, score=score, **QUICK)
    scoring = tokens[-2:]

    def cost(pruned: come.Bundle) -> float:
        if score == "kl":
            return come.kl_divergence(pruned, bundle, scoring)
        return math.log(come.perplexity(pruned, scoring))

    removals = [cost(apply_step(bundle, Remove(layers=[layer]))) for layer in range(6)]
    assert cost(result.bundle) <= min(removals) + 1e-6


def test_a_sweep_is_taken_where_it_scores_better() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    plain, moved = (
        come.compress(bundle, tokens, "come-joint", target_layers=3, sweep=sweep, **QUICK) for sweep in (False, True)
    )
    assert moved.plan.steps[: len(plain.plan.steps)] == plain.plan.steps
    scores = [come.kl_divergence(each.bundle, bundle, tokens[-2:]) for each in (plain, moved)]
    assert (scores[1] < scores[0]) == is_swept(moved.plan)
    assert scores[1] <= scores[0]
    assert come.methods()["come-joint"].goes_on({"sweep": False, "span": 2})
    assert not come.methods()["come-joint"].goes_on({"sweep": False})
    assert not come.methods()["come-joint"].goes_on({"span": 2})


@pytest.mark.parametrize(
    ("tokens", "channels", "made"), [(7168, 1536, True), (4096, 64, False), (7168, 1800, False), (4097, 64, True)]
)
def test_by_default_a_sweep_is_made_where_there_are_tokens_enough(tokens: int, channels: int, made: bool) -> None:
    options = come.methods()["come-joint"].parse
    assert options({}).sweeps(tokens, channels) == made
    assert options({"sweep": True}).sweeps(tokens, channels) and not options({"sweep": False}).sweeps(tokens, channels)


def test_longer_windows_are_merged_where_they_are_allowed() -> None:
    bundle, tokens = tiny_bundle(layers=8), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=4, span=4, **QUICK | {"layers_tried": 8})
    sizes = [step.window[1] - step.window[0] + 1 for step in result.plan.steps if isinstance(step, Concatenate)]
    assert all(2 <= size <= 4 for size in sizes)
    assert len(result.bundle.layers) == 4


def test_without_a_span_it_is_one_window() -> None:
    bundle, tokens = tiny_bundle(layers=8), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=4, **QUICK)
    merges = [step for step in result.plan.steps if isinstance(step, Concatenate)]
    assert [step.window[1] - step.window[0] for step in merges] == [4]
    assert sum(map(len, merges[0].channels)) == bundle.shape.channels


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
@pytest.mark.parametrize("attention", ["first", "chosen"])
def test_with_either_attention_a_plan_rebuilds_bit_for_bit(family: str, attention: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=4, attention=attention, **QUICK)
    for step in [step for step in result.plan.steps if isinstance(step, Concatenate)]:
        whole = [len(groups) for groups in step.kv_groups].count(0) >= len(step.kv_groups) - 1
        assert whole or attention == "chosen"
    assert weights_hash(replay(bundle, result.plan).model) == weights_hash(result.bundle.model)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_window_nearest_to_the_original_on_all_tokens_is_taken(seed: int) -> None:
    bundle, tokens = tiny_bundle(layers=8, seed=seed), tiny_tokens(8, 32)
    options = {"sweep": False, "scoring_tokens": 64, "windows_tried": 6}
    taken = come.compress(bundle, tokens, "come-joint", target_layers=6, **options)
    runner, fitted = LayerRunner(bundle), tokens[:-2]
    scores: dict[tuple[int, int], float] = {}
    for first in range(6):
        borders = HiddenStateCache.of(bundle, fitted)
        states = entering_window(runner, fitted, first, borders)
        (merged,) = joint_candidates(bundle, runner, (first, first + 2), states, JointRules())
        change = Change(0.0, (first, first + 2), merged)
        pruned, _ = change.take(bundle, taken.plan.model_copy(update={"steps": []}))
        scores[first, first + 2] = come.kl_divergence(pruned, bundle, tokens)
    best = min(scores, key=lambda window: scores[window])
    assert window_of(taken.plan) == best


def window_of(plan: Plan) -> tuple[int, ...]:
    """The layers that a plan of a single change makes one of."""
    (change,) = [step for step in plan.steps if isinstance(step, Concatenate)]
    return tuple(change.window)


def test_layers_that_do_not_mix_are_left_apart() -> None:
    """Every fourth layer of this one has no rotary table: no window of five is of one kind."""
    bundle, tokens = tiny_bundle("smollm3", layers=8), tiny_tokens(8, 32)
    result = come.compress(bundle, tokens, "come-joint", target_layers=4, **QUICK)
    merges = [step for step in result.plan.steps if isinstance(step, Concatenate)]
    assert len(merges) > 1
    assert len(result.bundle.layers) == 4


def test_progress_is_told_while_windows_are_fitted_and_maps_are_moved() -> None:
    told: list[Event] = []
    tokens = tiny_tokens(8, 32)
    come.compress(
        tiny_bundle(layers=8), tokens, "come-joint", target_layers=4, sweep=True, on_progress=told.append, **QUICK
    )
    steps = [event.step for event in told if event.stage == "compress"]
    assert steps == sorted(steps) and steps[-1] == 1000
    for words in ("Merging one window: 1 of ", "Step 1: merged layers", "Output maps of layer 4 of 4"):
        assert any(event.message.startswith(words) for event in told), words


def test_one_sequence_is_refused() -> None:
    with pytest.raises(ComeError, match="no tokens to score on"):
        come.compress(tiny_bundle(), tiny_tokens(1, 32), "come-joint", target_layers=4)


def test_the_model_is_left_as_it_was() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    before = weights_hash(bundle.model)
    come.compress(bundle, tokens, "come-joint", target_layers=4, **QUICK)
    assert weights_hash(bundle.model) == before
    assert all(parameter.grad is None for parameter in bundle.model.parameters())
    assert torch.isfinite(bundle.model(tokens).logits).all()


@pytest.mark.parametrize("family", ["llama", "gemma2", "smollm3"])
def test_windows_by_hand_are_fitted_and_layers_beside_them_dropped(family: str, tmp_path: Path) -> None:
    bundle, tokens = tiny_bundle(family, layers=8), tiny_tokens(8, 32)
    plans: list[Plan] = []
    by_hand = {"windows": [(4, 5), (0, 2)], "drop": [7]}
    result = come.compress(bundle, tokens, "come-joint", on_step=plans.append, **by_hand)
    assert result.plan.groups() == [[0, 1, 2], [3], [4, 5], [6]]
    assert [record.window for record in result.history] == [(0, 2), (2, 3), (4, 4)]
    result.plan.write(tmp_path / "plan.json")
    again = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)
    for stopped in plans:
        resumed = come.compress(bundle, tokens, "come-joint", done=stopped, **by_hand)
        assert resumed.plan.model_dump_json() == result.plan.model_dump_json()


def test_a_window_by_hand_is_what_a_run_of_that_target_merges() -> None:
    bundle, tokens = tiny_bundle(layers=8), tiny_tokens(8, 32)
    plain = come.compress(bundle, tokens, "come-joint", target_layers=5, **QUICK | {"windows_tried": 5})
    step = plain.plan.steps[0]
    assert isinstance(step, Concatenate)
    named = come.compress(bundle, tokens, "come-joint", windows=[step.window])
    if sum(map(bool, step.channels)) > 1:  # else a removal with a refit was cheaper
        assert named.plan.steps == plain.plan.steps
    assert len(named.bundle.layers) == 5


def test_what_does_not_go_with_windows_by_hand_is_refused() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    for options, words in (
        ({"windows": [(1, 2)], "span": 2}, "A span makes no sense"),
        ({"windows": [(1, 2)], "target_layers": 5}, "cannot be given together"),
        ({"windows": [(1, 2), (2, 3)]}, "overlap"),
        ({"windows": [(1, 2)], "drop": [2]}, "dropped and merged"),
        ({"drop": [2], "target_layers": 5}, "go with windows"),
    ):
        with pytest.raises(ComeError, match=words):
            come.compress(bundle, tokens, "come-joint", **options)


def test_nothing_to_do_leaves_the_model_as_it_is() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(8, 32)
    for asked in ({"target_layers": 6}, {"windows": []}):
        result = come.compress(bundle, tokens, "come-joint", **asked)
        assert not result.plan.steps and weights_hash(result.bundle.model) == weights_hash(bundle.model)


def test_requests_that_name_no_method_mean_come_where_windows_are_named() -> None:
    assert method_for([]) == method_for(["windows_tried"]) == "come-joint"
    assert method_for(["windows"]) == method_for(["windows", "drop"]) == method_for(["exponent"]) == "come"
