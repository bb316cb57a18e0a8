from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from come.errors import ComeError
from come.plan.plan import Base, Plan
from come.plan.steps import Concatenate, Remove

BASE = Base(source="m", fingerprint="f", model_type="llama", layers=10, parameters=1000)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    layers, steps = 10, []
    for _ in range(draw(st.integers(0, 4))):
        if layers < 4:
            break
        if draw(st.booleans()):
            first = draw(st.integers(0, layers - 2))
            size = draw(st.integers(2, min(4, layers - first)))
            share = draw(st.floats(0, 1))
            kept = [draw(st.lists(st.integers(0, 30), unique=True).map(sorted)) for _ in range(size)]
            ratio = [share] + [(1 - share) / (size - 1)] * (size - 1)
            steps.append(Concatenate(window=(first, first + size - 1), ratio=ratio, kv_groups=kept, channels=kept))
            layers -= size - 1
        else:
            gone = draw(st.lists(st.integers(0, layers - 1), unique=True, min_size=1, max_size=3).map(sorted))
            steps.append(Remove(layers=gone))
            layers -= len(gone)
    return Plan(base=BASE, dtype="float32", method="come", steps=steps)


@given(plans())
def test_a_plan_survives_json_and_its_groups_are_ordered(plan: Plan) -> None:
    assert Plan.parse(plan.model_dump_json()) == plan
    groups = plan.groups()
    assert len(groups) == plan.layers
    flat = [layer for group in groups for layer in group]
    assert flat == sorted(set(flat))
    assert set(flat) <= set(range(10))
    removed = sum(len(step.layers) for step in plan.steps if isinstance(step, Remove))
    assert removed or len(flat) == 10


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("not json", "not a valid plan"),
        ("{}", "not a valid plan: base"),
        ('{"schema_version": 2}', "schema_version"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ComeError, match=words):
        Plan.read(tmp_path / "plan.json")


def test_a_plan_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComeError, match="cannot be read"):
        Plan.read(tmp_path / "plan.json")


@pytest.mark.parametrize(
    "step",
    [
        {"kind": "remove", "layers": [10]},
        {"kind": "remove", "layers": [3, 2]},
        {"kind": "remove", "layers": list(range(10))},
        {"kind": "concatenate", "window": [8, 10], "ratio": [1, 0, 0], "kv_groups": [[]] * 3, "channels": [[]] * 3},
        {"kind": "concatenate", "window": [3, 3], "ratio": [1], "kv_groups": [[]], "channels": [[]]},
        {"kind": "concatenate", "window": [3, 4], "ratio": [1], "kv_groups": [[]], "channels": [[]]},
        {"kind": "concatenate", "window": [3, 4], "ratio": [1, 0], "kv_groups": [[1, 1], []], "channels": [[], []]},
        {"kind": "fold", "layers": [1]},
    ],
)
def test_steps_that_fit_no_model_are_refused(step: dict[str, object]) -> None:
    document = Plan(base=BASE, dtype="float32", method="come").model_dump() | {"steps": [step]}
    with pytest.raises(ComeError, match="not a valid plan"):
        Plan.parse(json.dumps(document))


def test_in_words_layers_are_the_originals_whatever_went_before() -> None:
    pair = {"ratio": [0.5, 0.5], "kv_groups": [[0], [1]], "channels": [[0], [1]]}
    steps = [Concatenate(window=(2, 3), **pair), Remove(layers=[4]), Concatenate(window=(5, 6), **pair)]
    plan = Plan(base=BASE, dtype="float32", method="come", steps=steps)
    said = plan.in_words()
    assert [words.split(",")[0].rstrip(".") for words in said] == [
        "Concatenate layers 2 and 3",
        "Remove layer 5",
        "Concatenate layers 7 and 8",
    ]
    assert plan.merged() == [[2, 3], [7, 8]]
