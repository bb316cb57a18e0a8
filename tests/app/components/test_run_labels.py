"""What runs are called in lists."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.components import run_labels


def test_only_labels_of_several_runs_are_followed_by_the_end_of_the_id() -> None:
    given_labels = {"20261127-come-27-ab12": "CoMe", "20261127-come-27-cd34": "CoMe", "20261127-slm-27-ef56": "SLM"}
    assert list(run_labels.distinct(given_labels).values()) == ["CoMe · ab12", "CoMe · cd34", "SLM"]
    assert run_labels.distinct({}) == {}


@given(st.lists(st.tuples(st.integers(1000, 9999), st.sampled_from("abc")), unique_by=lambda each: each[0]))
def test_every_run_has_a_label_of_its_own(runs: list[tuple[int, str]]) -> None:
    named = {f"20261127-120000-come-27-{end}": label for end, label in runs}
    told = run_labels.distinct(named)
    assert list(told) == list(named) and len(set(told.values())) == len(named)
