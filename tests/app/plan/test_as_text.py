"""The plan as text: there and back, and what is no plan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.plan.as_text import LONGEST, from_text, to_text
from app.state.choice import Draft
from come.errors import ComeError

WINDOWS = Draft(method="come", windows=[(1, 2), (4, 6)], ratios=[(0.25, 0.75), (0.5, 0.3, 0.2)], dropped=(8, 9))


def test_a_plan_by_hand_is_a_line_for_each_thing_that_was_chosen() -> None:
    assert to_text(WINDOWS).splitlines() == [
        "method: come",
        "windows: [[1, 2], [4, 6]]",
        "ratios: [[0.25, 0.75], [0.5, 0.3, 0.2]]",
        "drop: [8, 9]",
    ]
    assert to_text(Draft()).splitlines() == ["method: come-joint", "sparsity: 0.2"]


@pytest.mark.parametrize(
    "draft",
    [
        WINDOWS,
        Draft(target_layers=24),
        Draft(sparsity=0.15),
        Draft(method="shortgpt", target_layers=20),
        Draft(method="come", target_layers=20, options={"span": 3, "refit": True}),
        Draft(method="come-joint", windows=[]),
    ],
)
def test_there_and_back(draft: Draft) -> None:
    assert from_text(to_text(draft)) == draft


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 4)), max_size=3), st.sets(st.integers(50, 60), max_size=4))
def test_any_windows_come_back(starts: list[tuple[int, int]], dropped: set[int]) -> None:
    windows = [(12 * place + first, 12 * place + first + size) for place, (first, size) in enumerate(starts)]
    draft = Draft(method="come", windows=windows, dropped=tuple(sorted(dropped)))
    assert from_text(to_text(draft)) == draft


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is no plan"),
        ("windows: [[1, 2]", "line 1"),
        ("- 1", "is no plan"),
        ("windwos: [[1, 2]]", "has no 'windwos'"),
        ("windows: [[1, 2]]\ntarget_layers: 4", "together"),
        ("method: magic\ntarget_layers: 4", "'magic'"),
        ("windows: a", "window"),
        ("options: 3\ntarget_layers: 4", "options"),
        ("method: come\ntarget_layers: 4\noptions: {spam: 1}", "spam"),
        ("target_layers: 2026-01-01", "other than numbers"),
        ("target_layers: .nan", "other than numbers"),
        ("a: &a [1, 1]\nb: &b [*a, *a]\nwindows: [*b, *b]", "no YAML"),
        ("!!python/object/apply:os.system [ls]", "no YAML"),
        ("[" * 5000, "no YAML"),
        ("x" * (LONGEST + 1), "longer than"),
    ],
)
def test_what_is_no_plan_is_said_in_a_sentence(text: str, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        from_text(text)
