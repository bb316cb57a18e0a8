"""The ratio search: what it scores, how few candidates it needs, and that it never loses to a removal."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.steps import Concatenate, Remove
from come.pruning.allocate import concatenation
from come.pruning.merging import Choice
from come.pruning.methods.come_p import MOST_CANDIDATES, ComePOptions, Scorer, coarse_to_fine, grid
from come.transforms.compatible import mixable_windows
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def straightforward(family: str, granularity: int) -> tuple[Concatenate, float]:
    """The first step, by scoring a whole merged model for every ratio."""
    bundle = tiny_bundle(family)
    seen = come.measure(bundle, TOKENS, similarity=())
    possible = torch.tensor(mixable_windows(bundle, seen.layers, 2))
    first = int(seen.skip_influence.where(possible, torch.inf).argmin())
    pair = slice(first, first + 2)
    scored = []
    for at in range(granularity + 1):
        ratio = (at / granularity, (granularity - at) / granularity)
        step = concatenation(
            (first, first + 1), ratio, list(seen.kv_group_sensitivity[pair]), list(seen.mlp_sensitivity[pair])
        )
        scored.append((math.log(come.perplexity(apply_step(bundle, step), TOKENS)), at, step))
    loss, _, step = min(scored, key=lambda each: each[:2])
    return step, loss


@pytest.mark.parametrize("family", CASES)
def test_the_best_ratio_is_that_of_scoring_whole_models(family: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    result = come.compress(bundle, TOKENS, "come-p", target_layers=5, granularity=6)
    step, loss = straightforward(family, 6)
    assert result.plan.steps == [step]
    assert math.log(come.perplexity(result.bundle, TOKENS)) == pytest.approx(loss, rel=1e-6)
    assert weights_hash(bundle.model) == before


@pytest.mark.parametrize("search", ["grid", "coarse-to-fine"])
def test_no_removal_of_either_layer_has_a_lower_loss(search: str) -> None:
    bundle = tiny_bundle("qwen3", layers=7)
    result = come.compress(bundle, TOKENS, "come-p", target_layers=4, search=search)
    for number, step in enumerate(result.plan.steps):
        assert isinstance(step, Concatenate)
        before = bundle
        for earlier in result.plan.steps[:number]:
            before = apply_step(before, earlier)
        chosen = come.perplexity(apply_step(before, step), TOKENS)
        for layer in step.window:
            assert chosen <= come.perplexity(apply_step(before, Remove(layers=[layer])), TOKENS)


def test_a_candidate_shares_out_whole_units_by_the_rule() -> None:
    shape = {"hidden_size": 60, "num_attention_heads": 15, "num_key_value_heads": 5, "intermediate_size": 40}
    choice = Choice(tiny_bundle("llama", **shape), (1, 2), [0.1, 0.1], [torch.rand(5)] * 2, [torch.rand(40)] * 2, 2)
    score = Scorer(None, ComePOptions(), choice)  # type: ignore[arg-type]
    for steps, groups, channels in ((4, [1, 4], [8, 32]), (16, [4, 1], [32, 8]), (18, [5, 0], [36, 4])):
        step = score.candidate(steps)
        assert step.ratio == [steps / 20, (20 - steps) / 20]
        assert [len(kept) for kept in step.kv_groups] == groups
        assert [len(kept) for kept in step.channels] == channels
    assert score.plateaus() == [
        *(range(0, 4), range(4, 8), range(8, 10)),
        *(range(10, 13), range(13, 17), range(17, 21)),
    ]


def test_candidates_that_keep_the_same_units_are_scored_once() -> None:
    scored: list[str] = []
    come.compress(
        tiny_bundle(layers=4),
        TOKENS,
        "come-p",
        target_layers=3,
        granularity=400,
        on_progress=lambda event: scored.append(event.message) if event.stage == "search" else None,
    )
    assert 40 < len(scored) < 120, "48 channels and 4 groups allow about so many, not 401"


def test_windows_by_hand_and_no_borders_give_the_same() -> None:
    bundle = tiny_bundle(layers=8)
    by_hand = come.compress(bundle, TOKENS, "come-p", windows=[(5, 6), (1, 2)], granularity=4)
    assert by_hand.plan.groups() == [[0], [1, 2], [3], [4], [5, 6], [7]]
    plans = [
        come.compress(bundle, TOKENS, "come-p", target_layers=5, granularity=4, memory_budget=budget).plan.steps
        for budget in (0, None)
    ]
    assert plans[0] == plans[1]


@given(st.integers(1, 40), st.floats(0, 1), st.floats(0.2, 4), st.floats(0.2, 4))
def test_coarse_to_fine_comes_near_the_grid_where_there_is_one_valley(
    granularity: int, centre: float, left: float, right: float
) -> None:
    def loss(at: int) -> float:
        distance = at / granularity - centre
        return distance * right if distance > 0 else -distance * left

    looks: list[int] = []

    def counted(at: int) -> float:
        looks.append(at)
        return loss(at)

    found = coarse_to_fine(granularity, counted)
    assert len(looks) == len(set(looks)) <= MOST_CANDIDATES
    assert {0, granularity} <= set(looks)
    if granularity <= 20:
        assert abs(found - grid(granularity, loss)) <= 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"granularity": 0}, "granularity of come-p cannot be 0. Give 1 or more."),
        ({"span": 3}, "pairs"),
        ({"search": "greedy"}, "search of come-p cannot be .greedy.. It takes grid or coarse-to-fine."),
        ({"exponent": 2.0}, "no option"),
    ],
)
def test_impossible_options_get_one_sentence(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, "come-p", target_layers=4, **options)
    with pytest.raises(ComeError, match="pairs"):
        come.compress(tiny_bundle(), TOKENS, "come-p", windows=[(1, 3)])
