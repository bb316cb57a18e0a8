"""Showing the page to a room: what the frame has then, and how figures are drawn."""

from __future__ import annotations

from collections.abc import Callable

import plotly.graph_objects as go
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import theme
from app.presenter import LARGER, LEAST, enlarged

Visit = Callable[..., AppTest]


def _keys(at: AppTest) -> set[str]:
    return {button.key for button in at.button if button.key}


def test_presenting_begins_by_a_link_or_a_button_and_ends(visit: Visit) -> None:
    at = visit("layers", present="1")
    assert not at.exception and {"leave-presenting", "present-arrow_back", "present-arrow_forward"} <= _keys(at)
    assert at.query_params["present"] in ("1", ["1"]) and "present" not in _keys(at)
    at.button(key="leave-presenting").click().run()
    assert "leave-presenting" not in _keys(at) and "present" not in at.query_params
    at.button(key="present").click().run()
    assert "leave-presenting" in _keys(at) and at.query_params["present"] in ("1", ["1"])


def test_type_and_margins_are_larger_and_data_stays() -> None:
    figure = go.Figure([go.Bar(x=[1, 2], y=[3, 4], marker={"line": {"width": 2}}, textfont={"size": 10})])
    figure.add_hline(y=1, annotation={"text": "here", "font": {"size": 12}})
    theme.finish(figure, "What it says", x="layer", y="value")
    left, data = figure.layout.margin.l, figure.data[0].to_plotly_json()
    large = enlarged(figure)
    assert large.layout.xaxis.title.font.size == LARGER * 12 and large.layout.annotations[0].font.size == LARGER * 12
    assert large.layout.font.size == LARGER * 12 and large.layout.margin.l == LARGER * left
    assert large.layout.xaxis.tickfont.size == large.layout.yaxis.tickfont.size == LEAST  # by itself the page draws 14
    assert large.data[0].textfont.size == LARGER * 10
    assert {**large.data[0].to_plotly_json(), "textfont": None} == {**data, "textfont": None}


def test_a_long_name_of_a_vertical_axis_is_broken_before_its_brackets() -> None:
    def named(words: str) -> str:
        return str(
            enlarged(theme.finish(go.Figure(go.Scatter(y=[1, 2])), "", y=words, height=300)).layout.yaxis.title.text
        )

    assert named("perplexity (lower is better, log, ▲ off the scale)").startswith("perplexity<br>(lower")
    assert named("loss (log)") == "loss (log)"


def test_a_frame_in_a_slide_is_presented_without_keys(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(st.context), "is_embedded", property(lambda _: True))
    at = visit("layers")
    assert not at.exception and not _keys(at) & {"leave-presenting", "present-arrow_forward", "present"}
    assert "present" not in at.query_params, "the address stays as the slide has it"
    assert any("clamp(" in each.proto.body for each in at.get("html")), "in larger type"
