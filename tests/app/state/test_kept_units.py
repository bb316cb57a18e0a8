"""What a plan keeps of each original layer."""

import numpy as np
import pytest

import come.runs
from come.models import Facts, describe
from come.plan.plan import Base, Plan
from come.plan.steps import Concatenate, Remove
from come.pruning import kept_units
from tests.app.conftest import Lab


@pytest.fixture
def facts(lab: Lab) -> Facts:
    return describe(str(lab.model))


def plan_of(facts: Facts, *steps: Concatenate | Remove) -> Plan:
    base = Base(source="x", fingerprint="0", model_type="llama", layers=facts.layers, parameters=facts.parameters)
    return Plan(base=base, dtype="float32", method="come", steps=list(steps))


def test_units_are_followed_back_through_repeated_merges(facts: Facts) -> None:
    first = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[0, 3], [1, 2]], channels=[[5, 7], [0]])
    again = Concatenate(window=(1, 2), ratio=[0.5, 0.5], kv_groups=[[1, 2], [0]], channels=[[1, 2], [4]])
    kept = kept_units.of_plan(plan_of(facts, first, again), facts)
    assert kept.groups == [[0], [1, 2, 3], [4], [5]]
    assert kept.windows == [(1, 3)]
    assert {layer: (k.channels, k.kv_groups) for layer, k in kept.layers.items()} == {
        1: ([7], [3]),
        2: ([0], [1]),
        3: ([4], [0]),
    }


def test_removed_layers_keep_nothing(facts: Facts) -> None:
    kept = kept_units.of_plan(plan_of(facts, Remove(layers=[2, 4])), facts)
    assert kept.groups == [[0], [1], [3], [5]]
    for part in ("ffn", "attention"):
        assert kept.mask(facts, part).mean(axis=1).tolist() == [1, 1, 0, 1, 0, 1]


def test_shares_of_a_finished_run_are_those_of_whole_layers(lab: Lab, facts: Facts) -> None:
    run = next(run for run in come.runs.list_runs() if run.config.kind == "compress" and run.config.method == "come")
    plan = run.plan()
    assert plan is not None
    kept = kept_units.of_plan(plan, facts)
    for part in ("ffn", "attention"):
        shares = kept.mask(facts, part).mean(axis=1)
        assert np.isclose(shares.sum(), plan.layers)
        assert ((shares >= 0) & (shares <= 1)).all()
