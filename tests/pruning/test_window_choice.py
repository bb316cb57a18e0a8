"""Windows chosen by what they cost, against scoring whole models: which one, on which tokens, and what is told."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.events import Event
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Remove
from come.pruning.allocate import concatenation, ratio_from_influence
from come.pruning.forecast import Known
from come.pruning.registry import methods
from come.pruning.result import StepRecord
from come.pruning.schedule import Calibration
from come.pruning.scoring import Scorer
from come.pruning.window_choice import Rules, by_score
from come.request import RunConfig, checked
from come.transforms.compatible import mixable_windows
from come.transforms.rebuild import apply_step, replay
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(16, 16)
MEASURED, SCORED = TOKENS[:-2], TOKENS[-2:]
BY = ("kl", "loss", "removal-loss", "window-loss")
Window = tuple[int, int]


def cost(bundle: Bundle, original: Bundle, select: str, tokens: Tensor = SCORED) -> float:
    """Of a whole model, by the library's own judges."""
    return come.kl_divergence(bundle, original, tokens) if select == "kl" else math.log(come.perplexity(bundle, tokens))


def merges(bundle: Bundle, stands_for: list[int], size: int = 2) -> dict[Window, Concatenate]:
    """The merge of every window that can be merged, as CoMe makes it."""
    seen = come.measure(bundle, MEASURED, similarity=())
    found = {}
    for first, together in enumerate(mixable_windows(bundle, seen.layers, size)):
        layers = slice(first, first + size)
        if together:
            ratio = ratio_from_influence(seen.block_influence[layers].tolist(), 1.0, 0.0, sum(stands_for[layers]))
            window = (first, first + size - 1)
            kv_groups, channels = list(seen.kv_group_sensitivity[layers]), list(seen.mlp_sensitivity[layers])
            found[window] = concatenation(window, ratio, kv_groups, channels)
    return found


def scores(bundle: Bundle, original: Bundle, steps: Mapping[Window, Concatenate], select: str) -> dict[Window, float]:
    """What each window costs: merged, with one of its layers left, or gone."""
    if select in ("kl", "loss"):
        return {window: cost(apply_step(bundle, step), original, select) for window, step in steps.items()}
    found = {}
    for first, last in steps:
        window = range(first, last + 1)
        stays: list[set[int]] = [set()] if select == "window-loss" else [{kept} for kept in window]
        ways = [Remove(layers=[each for each in window if each not in kept]) for kept in stays]
        found[first, last] = min(cost(apply_step(bundle, way), original, "loss") for way in ways)
    return found


def straightforward(family: str, select: str, target: int, no_repeat: bool = True) -> list[Concatenate]:
    """Pairs, every one of them tried on whole models before every step."""
    original = bundle = tiny_bundle(family)
    stands_for, taken = [1] * 6, list[Concatenate]()
    while len(bundle.layers) > target:
        steps = merges(bundle, stands_for)
        fresh = {window: step for window, step in steps.items() if sum(stands_for[window[0] : window[1] + 1]) == 2}
        if no_repeat and fresh:
            steps = fresh
        found = scores(bundle, original, steps, select)
        window = min(found, key=found.__getitem__)
        taken.append(steps[window])
        bundle = apply_step(bundle, steps[window])
        stands_for[window[0] : window[1] + 1] = [sum(stands_for[window[0] : window[1] + 1])]
    return taken


FEW = ("llama", "opt", "gemma3_text", "smollm3", "falcon")


@pytest.mark.parametrize(
    ("family", "select"),
    [*((family, "kl") for family in CASES), *((family, select) for family in FEW for select in BY[1:])],
)
def test_the_window_is_that_of_scoring_whole_models(family: str, select: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    result = come.compress(bundle, TOKENS, target_layers=4, select=select)
    assert result.plan.steps == straightforward(family, select, 4)
    assert weights_hash(bundle.model) == before


@pytest.mark.parametrize("select", BY)
def test_layers_merge_again_where_they_may(select: str) -> None:
    plan = come.compress(tiny_bundle(), TOKENS, target_layers=2, select=select, no_repeat=False).plan
    assert plan.steps == straightforward("llama", select, 2, no_repeat=False)


@pytest.mark.parametrize("select", BY)
def test_longer_windows_are_scored_whole(select: str) -> None:
    bundle = tiny_bundle("qwen3", layers=7)
    result = come.compress(bundle, TOKENS, target_layers=5, span=3, select=select)
    found = scores(bundle, bundle, merges(bundle, [1] * 7, 3), select)
    best = min(found, key=found.__getitem__)
    assert result.history[0].window == best
    assert result.history[0].scores == pytest.approx(list(found.values()), rel=1e-4)
    assert (result.history[0].scored_by, result.history[0].chosen_score) == (
        select,
        pytest.approx(found[best], rel=1e-4),
    )


@pytest.mark.parametrize("select", BY)
def test_one_pass_takes_disjoint_windows_by_ascending_score(select: str) -> None:
    bundle = tiny_bundle(layers=9)
    history = come.compress(bundle, TOKENS, target_layers=6, select=select, passes=1).history
    found = scores(bundle, bundle, merges(bundle, [1] * 9), select)
    taken: list[Window] = []
    for first, last in sorted(found, key=found.__getitem__):
        if len(taken) < 3 and all(last < lower or upper < first for lower, upper in taken):
            taken.append((first, last))
    assert [record.measured for record in history] == sorted(taken)
    assert [record.chosen_score for record in history] == pytest.approx(
        [found[each] for each in sorted(taken)], rel=1e-4
    )


@pytest.mark.parametrize("select", BY)
def test_come_p_scores_shares_by_influence_and_searches_only_the_ratio_of_the_best(select: str) -> None:
    bundle = tiny_bundle("qwen2")
    result = come.compress(bundle, TOKENS, "come-p", target_layers=5, select=select, granularity=4)
    found = scores(bundle, bundle, merges(bundle, [1] * 6), select)
    assert result.history[0].window == min(found, key=found.__getitem__)
    seen = come.measure(bundle, MEASURED, similarity=())
    pair = slice(result.history[0].window[0], result.history[0].window[1] + 1)
    steps = [
        concatenation(
            result.history[0].window,
            (at / 4, 1 - at / 4),
            list(seen.kv_group_sensitivity[pair]),
            list(seen.mlp_sensitivity[pair]),
        )
        for at in range(5)
    ]
    assert result.plan.steps == [min(steps, key=lambda step: cost(apply_step(bundle, step), bundle, "loss", MEASURED))]


@pytest.mark.parametrize("method", ["come", "come-p"])
def test_by_default_windows_are_chosen_by_skip_influence_and_all_is_measured(method: str) -> None:
    plain, told = (
        come.compress(tiny_bundle(), TOKENS, method, target_layers=4, **options)
        for options in ({}, {"select": "sbi", "sensitivity": "magnitude"})
    )
    assert plain.plan == told.plan
    assert not any(record.scores or record.scored_by or record.chosen_score for record in plain.history)
    seen = come.measure(tiny_bundle(), TOKENS, similarity=())
    assert plain.history[0].window[0] == int(seen.skip_influence.argmin())
    assert plain.history[0].block_influence == pytest.approx(seen.block_influence.tolist(), rel=1e-5)


@pytest.mark.parametrize("select", BY)
def test_what_is_scored_on_is_not_measured(select: str) -> None:
    result = come.compress(tiny_bundle(), TOKENS, target_layers=5, select=select)
    seen = come.measure(tiny_bundle(), MEASURED, similarity=())
    assert result.history[0].block_influence == pytest.approx(seen.block_influence.tolist(), rel=1e-5)
    assert result.plan.calibration["sequences"] == 16
    few = come.compress(tiny_bundle(), TOKENS[:3], target_layers=5, select=select)  # one of three
    seen = come.measure(tiny_bundle(), TOKENS[:2], similarity=())
    assert few.history[0].block_influence == pytest.approx(seen.block_influence.tolist(), rel=1e-5)


@pytest.mark.parametrize("passes", [None, 2])
@pytest.mark.parametrize("select", BY)
def test_an_interrupted_run_goes_on_to_the_same_plan_and_rebuilds(select: str, passes: int | None) -> None:
    bundle = tiny_bundle(layers=9)
    options: dict[str, Any] = {"target_layers": 5, "select": select, "sensitivity": "fisher", "passes": passes}
    plans: list[Plan] = []
    whole = come.compress(bundle, TOKENS, on_step=plans.append, **options)
    for plan in plans:
        again = come.compress(bundle, TOKENS, done=Plan.parse(plan.model_dump_json()), **options)
        assert again.plan == whole.plan
        assert weights_hash(again.bundle.model) == weights_hash(whole.bundle.model)
    assert weights_hash(replay(bundle, whole.plan).model) == weights_hash(whole.bundle.model)


def test_a_plan_of_before_these_options_goes_on() -> None:
    bundle, plans = tiny_bundle(), list[Plan]()
    whole = come.compress(bundle, TOKENS, target_layers=4, on_step=plans.append)
    options = {name: value for name, value in plans[0].options.items() if name not in ("select", "sensitivity")}
    old = plans[0].model_copy(update={"options": options})
    resumed = come.compress(bundle, TOKENS, target_layers=4, done=old).plan
    assert resumed.steps == whole.plan.steps
    assert resumed.options == options, "checkpoints beside it know it by what it was"
    with pytest.raises(ComeError, match="another request"):
        come.compress(bundle, TOKENS, target_layers=4, select="kl", done=old)


@pytest.mark.parametrize("select", BY)
def test_any_memory_budget_and_batch_gives_the_same_windows(select: str) -> None:
    results = [
        come.compress(tiny_bundle(layers=8), TOKENS, target_layers=4, select=select, memory_budget=budget, batch_size=3)
        for budget in (0, 80_000, None)
    ]
    assert results[0].plan.steps == results[1].plan.steps == results[2].plan.steps
    assert [record.scores for record in results[0].history] == [record.scores for record in results[2].history]


def test_halves_of_the_scoring_text_that_choose_otherwise_are_told() -> None:
    table = {(0, 1): [1.0, 5.0], (1, 2): [2.0, 2.0], (2, 3): [6.0, 1.5]}
    rules = Rules([2], {2: torch.tensor([True] * 3)}, [False] * 4, no_repeat=True)
    runner, told = LayerRunner(tiny_bundle(layers=4)), list[Event]()
    found = by_score(rules, runner, lambda window: torch.tensor([table[window]]), "kl", told.append, "Step 1 of 2")
    assert (found.windows, found.halves) == ([(1, 2)], ([(0, 1)], [(2, 3)]))
    assert found.scores == {2: (3.0, 2.0, 3.75)}
    assert "All of the scoring text chose 1-2, its first half 0-1, its second half 2-3" in found.note(1)[0]
    assert [event.message for event in told][-1] == "Step 1 of 2: window 2-3, KL 3.7500"
    alike = by_score(rules, runner, lambda window: torch.tensor([table[window][:1]]), "kl", None, "")
    assert alike.windows == [(0, 1)] and alike.note(1) == []
    merged = Rules([2], {2: torch.tensor([True, False, True])}, [False, False, True, False], no_repeat=True)
    looked: list[Window] = []

    def ways(window: Window) -> Tensor:
        looked.append(window)
        return torch.tensor([table[window]])

    assert by_score(merged, runner, ways, "kl", None, "").scores == {2: (3.0, None, None)}
    assert looked == [(0, 1)], "a window that may not be chosen is not scored"


def test_a_window_whose_merge_overflows_is_never_chosen() -> None:
    rules = Rules([2], {2: torch.tensor([True] * 2)}, [False] * 3, no_repeat=True)
    runner, values = LayerRunner(tiny_bundle(layers=3)), {(0, 1): torch.nan, (1, 2): 9.0}
    found = by_score(rules, runner, lambda window: torch.tensor([[values[window]] * 2]), "loss", None, "")
    assert (found.windows, found.scores) == ([(1, 2)], {2: (None, 9.0)})
    with pytest.raises(ComeError, match="overflow"):
        by_score(rules, runner, lambda _: torch.tensor([[torch.inf] * 2]), "loss", None, "")


@pytest.mark.parametrize("sensitivity", ["magnitude", "fisher"])
@pytest.mark.parametrize("select", ["sbi", *BY])
def test_progress_only_grows_and_names_what_was_scored(select: str, sensitivity: str) -> None:
    events: list[Event] = []
    result = come.compress(
        tiny_bundle(), TOKENS, target_layers=4, select=select, sensitivity=sensitivity, on_progress=events.append
    )
    shares = [event.step / event.of for event in events if event.stage == "compress"]
    assert shares == sorted(shares) and shares[-1] == 1
    assert any("window 0-1" in event.message for event in events) == (select != "sbi")
    assert any(event.message == "Gradients" for event in events) == (sensitivity == "fisher")
    told = [event.values["score"] for event in events if "score" in event.values]
    assert told == [record.chosen_score for record in result.history if record.scores]
    assert [StepRecord(**json.loads(json.dumps(each.to_dict()))).chosen_score for each in result.history] == [
        each.chosen_score for each in result.history
    ]


@pytest.mark.parametrize("method", ["come", "come-p"])
@pytest.mark.parametrize("select", BY)
def test_a_single_sequence_is_refused_before_anything_runs(
    method: str, select: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setattr(LayerRunner, "run", None)
    with pytest.raises(ComeError, match=f"by {select} takes two calibration sequences or more.*Give more tokens"):
        come.compress(tiny_bundle(), TOKENS[:1], method, target_layers=5, select=select)
    settings = {"model": str(tiny_folder(tmp_path)), "method": method, "target_layers": 5, "seq_len": 64}
    asked = RunConfig.model_validate({**settings, "n_tokens": 100, "options": {"select": select}})
    with pytest.raises(ComeError, match="two calibration sequences"):
        checked(asked)
    checked(asked.model_copy(update={"n_tokens": 128}))


@pytest.mark.parametrize("method", ["come", "come-p"])
def test_windows_by_hand_leave_nothing_to_select(method: str) -> None:
    with pytest.raises(ComeError, match=r"Windows by hand leave nothing to select\. Set select to sbi"):
        come.compress(tiny_bundle(), TOKENS, method, windows=[(1, 2)], select="kl")


@pytest.mark.parametrize("method", ["come", "come-p"])
def test_what_the_options_need_and_that_a_forecast_cannot_know_it(method: str, tmp_path: Any) -> None:
    facts = come.describe(tiny_folder(tmp_path))
    seen = come.measure(tiny_bundle(), TOKENS)
    known = methods()[method]

    def told(**options: Any) -> tuple[bool, bool, bool, bool]:
        parsed = known.parse(options)
        assert known.forecast is not None
        found = known.forecast(Known(facts, 5, seen), parsed)
        assert found is not None
        needs = known.needs_with(parsed)
        return "what each costs" in found.doubt, "Fisher" in found.doubt, "logits" in needs, "gradients" in needs

    assert told()[:2] == (False, False) and not told()[3]
    assert told(select="loss") == (True, False, True, False)
    assert told(sensitivity="fisher") == (False, True, True, True)
    assert told(windows=[(1, 2)], sensitivity="fisher") == (False, True, True, True)


@pytest.mark.parametrize("passes", [None, 2])
@pytest.mark.parametrize("select", BY)
def test_the_schedule_counts_what_is_scored(
    select: str, passes: int | None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, facts = tiny_bundle(layers=12), come.describe(tiny_folder(tmp_path, layers=12))
    calls: list[int] = []
    plain = Scorer.by_sequence

    def counted(self: Scorer, model: Any, start: int, layers: Any, instead: Any = None) -> Tensor:
        calls.append(len(layers))
        return plain(self, model, start, layers, instead)

    monkeypatch.setattr(Scorer, "by_sequence", counted)
    options = {"select": select, "passes": passes}
    come.compress(bundle, TOKENS, target_layers=9, **options)
    come_ = methods()["come"]
    schedule = come_.schedule(Known(facts, 9), come_.parse(options), Calibration(16 * 16, 16))
    original = 1 if select == "kl" else 0
    assert schedule.scoring_tokens == 2 * 16
    assert sum(tried for tried, _ in schedule.scored) - original == pytest.approx(len(calls), rel=0.15)
    layers = sum(tried * (run - 1) for tried, run in schedule.scored[original:])  # the one below it is not counted here
    assert layers == pytest.approx(sum(calls), rel=0.25)
