"""Auto: never worse than a member on the scoring tokens, says which won, keeps its time, and rebuilds bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Concatenate, Remove, Replace
from come.pruning.methods.auto import AutoOptions, members
from come.pruning.take_back import one_by_one, without
from come.transforms.rebuild import base_of, replay
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(8, 32)
QUICK = {"scoring_tokens": 64, "exchanges": 2}


def test_the_portfolio_is_what_methods_state() -> None:
    names = {each.method.name for each in members(AutoOptions())}
    assert names == {"come", "come-p", "come-joint", "shortgpt", "sleb", "deeper", "replaceme"}
    assert all(each.options.refit for each in members(AutoOptions()) if hasattr(each.options, "refit"))


def test_it_is_never_worse_than_a_member(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    result = come.compress(bundle, TOKENS, "auto", target_layers=4, **QUICK)
    ours = come.kl_divergence(result.bundle, bundle, TOKENS[-2:])
    for each in members(AutoOptions(scoring_tokens=64)):
        tokens = each.tokens(TOKENS, TOKENS[:-2])
        theirs = come.compress(bundle, tokens, each.method.name, target_layers=4, **each.options.model_dump())
        assert ours <= come.kl_divergence(theirs.bundle, bundle, TOKENS[-2:]) + 1e-6, each.method.name
    assert any(note.startswith("Auto took the plan of") for note in result.plan.notes)
    result.plan.write(tmp_path / "plan.json")
    again = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)


def test_with_no_time_left_one_plan_is_made() -> None:
    result = come.compress(tiny_bundle(), TOKENS, "auto", target_layers=4, minutes=1e-9, **QUICK)
    assert len(result.bundle.layers) == 4
    assert any("The time was over before" in note for note in result.plan.notes)


@pytest.mark.parametrize("names", [["auto"], ["fisher"], ["nonsense"]])
def test_what_it_cannot_choose_from_is_refused(names: list[str]) -> None:
    with pytest.raises(ComeError):
        come.compress(tiny_bundle(), TOKENS, "auto", target_layers=4, methods=names)


def test_a_method_that_cannot_is_told_of() -> None:
    result = come.compress(
        tiny_bundle("gemma2"), TOKENS, "auto", target_layers=5, methods=["replaceme", "shortgpt"], **QUICK
    )
    assert any(note.startswith("ReplaceMe could not be tried") for note in result.plan.notes)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_step_taken_back_leaves_the_others(data: st.DataObject) -> None:
    """The groups of layers without a step are those of the plan without it, wherever they lie."""
    bundle = tiny_bundle(layers=7)
    plan = Plan(base=base_of(bundle), dtype="float32", method="auto")
    layers = 7
    for _ in range(data.draw(st.integers(1, 4))):
        first = data.draw(st.integers(0, layers - 2))
        if data.draw(st.booleans()):
            plan = plan.with_step(Remove(layers=[first]))
        else:
            groups, channels = [[0, 1], [2, 3]], [list(range(20)), list(range(20, 48))]
            plan = plan.with_step(
                Concatenate(window=(first, first + 1), ratio=[0.5, 0.5], kv_groups=groups, channels=channels)
            )
            name = f"model.layers.{first}.mlp.down_proj.weight"
            weight = replay(bundle, plan).model.get_parameter(name) * 1.5
            plan = plan.with_tensors({name: weight.detach()}, "test")
        layers -= 1
    single = one_by_one(plan)
    assert single is not None
    numbers = [at for at, step in enumerate(single.steps) if not isinstance(step, Replace)]
    number = data.draw(st.sampled_from(numbers))
    found = without(bundle, single, number)
    if found is None:
        return
    shorter, back = found
    assert back.layers == single.layers + 1 == len(shorter.layers)
    whole = single.groups()
    changed = [group for group in back.groups() if group not in whole]
    step = single.steps[number]
    # What is new are the layers of the step alone; whatever stood before it stands as it did.
    assert len(changed) == (1 if isinstance(step, Remove) else 2)
    assert weights_hash(replay(bundle, back).model) == weights_hash(shorter.model)
    last = single.steps[-1]
    if number == numbers[-1]:
        assert back.steps == single.steps[:number]
    elif isinstance(last, Replace):
        assert isinstance(back.steps[-1], Replace)


def test_several_layers_at_once_become_steps_of_one() -> None:
    bundle = tiny_bundle()
    plan = Plan(base=base_of(bundle), dtype="float32", method="auto").with_step(Remove(layers=[1, 3, 4]))
    single = one_by_one(plan)
    assert single is not None
    assert [step.layers for step in single.steps if isinstance(step, Remove)] == [[4], [3], [1]]
    assert weights_hash(replay(bundle, single).model) == weights_hash(replay(bundle, plan).model)
