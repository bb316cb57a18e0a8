"""Several merges from one measuring pass."""

from __future__ import annotations

import pytest

import come
from come.errors import ComeError
from come.plan.plan import Plan
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


@pytest.mark.parametrize(("passes", "expected"), [(1, 1), (2, 2), (4, 4), (None, 4)])
def test_merges_are_spread_over_the_passes(passes: int | None, expected: int) -> None:
    result = come.compress(tiny_bundle(layers=9), TOKENS, target_layers=5, passes=passes)
    assert result.plan.layers == 5
    assert len({record.block_influence for record in result.history}) == expected


def test_each_merge_of_a_pass_tells_its_own_influence() -> None:
    bundle = tiny_bundle(layers=9)
    drafts = come.draft(come.measure(bundle, TOKENS), target_layers=5)
    history = come.compress(bundle, TOKENS, target_layers=5, passes=1).history
    assert [record.measured for record in history] == [(each.first, each.last) for each in drafts]
    assert [record.chosen_skip_influence for record in history] == [
        history[0].skip_influence[each.first] for each in drafts
    ]
    assert history[-1].measured != history[-1].window


def test_as_many_passes_as_merges_is_the_progressive_loop() -> None:
    plans = [come.compress(tiny_bundle(layers=9), TOKENS, target_layers=5, passes=k).plan for k in (4, None)]
    assert plans[0].steps == plans[1].steps


def test_one_pass_is_what_the_draft_says() -> None:
    bundle = tiny_bundle(layers=9)
    drafts = come.draft(come.measure(bundle, TOKENS), target_layers=5)
    plan = come.compress(bundle, TOKENS, target_layers=5, passes=1).plan
    assert [group for group in plan.groups() if len(group) > 1] == [
        list(range(each.first, each.last + 1)) for each in drafts
    ]
    assert [step.channels for step in plan.steps] == [each.kept_channels for each in drafts]  # type: ignore[union-attr]


def test_where_no_more_windows_fit_another_pass_is_made() -> None:
    result = come.compress(tiny_bundle(layers=8), TOKENS, target_layers=2, passes=1)
    assert result.plan.layers == 2
    assert len({record.block_influence for record in result.history}) > 1


def test_an_interrupted_run_goes_on_to_the_same_plan() -> None:
    bundle = tiny_bundle(layers=9)
    plans: list[Plan] = []
    whole = come.compress(bundle, TOKENS, target_layers=4, passes=2, on_step=plans.append)
    assert [len(plan.steps) for plan in plans] == [3, 5]
    assert come.compress(bundle, TOKENS, target_layers=4, passes=2, done=plans[0]).plan == whole.plan


@pytest.mark.parametrize("passes", [0, 5])
def test_passes_out_of_range_are_refused(passes: int) -> None:
    with pytest.raises(ComeError, match="passes"):
        come.compress(tiny_bundle(layers=9), TOKENS, target_layers=5, passes=passes)
