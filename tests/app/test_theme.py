"""The house's axes and styles."""

from __future__ import annotations

import plotly.graph_objects as go
import pytest

from app import theme


@pytest.mark.parametrize(
    ("low", "high", "marks"),
    [(6.0, 80.0, [10, 20, 50]), (0.5, 5.0, [0.5, 1, 2, 5]), (0.02, 300.0, [0.1, 1, 10, 100]), (6.0, 8.0, [])],
)
def test_log_marks_are_round_and_within(low: float, high: float, marks: list[float]) -> None:
    assert theme.log_marks(low, high) == pytest.approx(marks)


def test_a_logarithmic_axis_names_its_marks_in_full() -> None:
    axis = theme.sensitivity_axis(go.Figure(), 6.0, 80.0, log=True).layout.yaxis
    assert axis.type == "log"
    assert list(axis.ticktext) == ["10", "20", "50"]
    assert theme.sensitivity_axis(go.Figure(), 6.0, 8.0, log=True).layout.yaxis.tickvals is None
    assert theme.sensitivity_axis(go.Figure(), 0.0, 0.0, log=True).layout.yaxis.type == "log"
    assert theme.sensitivity_axis(go.Figure(), 6.0, 80.0, log=False).layout.yaxis.type == "linear"


def test_the_styles_hold_no_placeholder_and_no_variable_that_nothing_sets() -> None:
    styles = theme.css()
    assert "LINE" not in styles and "INK" not in styles
    assert "--st-" not in styles
    for name in ("--come-line", "--come-ink"):
        assert f"{name}:" in styles and f"var({name})" in styles
