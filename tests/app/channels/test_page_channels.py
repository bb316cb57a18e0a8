"""The channels page: a channel is found, zoomed to, and has a card."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.channels import asking, card
from app.inspect import follow_unit
from come.errors import ComeError
from come.measurement.next_words import NextWords
from come.measurement.top_contexts import Context
from come.pruning.kept_units import KeptByLayer, KeptUnits
from come.serving.resident import client
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
WORDS = {"promoted": [" the", "<b>"], "suppressed": ["no"]}
CONTEXT = {
    "text_before": "a ",
    "token": "fox",
    "text_after": " jumps",
    "activation": -1.25,
    "sequence": 0,
    "position": 3,
}


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def said(at: AppTest) -> str:
    html = [element.proto.body for element in at.get("html")]
    return " ".join(
        [*html, *(each.value for kind in (at.markdown, at.caption, at.header, at.warning) for each in kind)]
    )


def test_a_channel_is_found_by_its_numbers(visit: Visit) -> None:
    at = fine(visit("channels"))
    at = fine(at.text_input(key="find-channel").set_value("layer 3 channel 5").run())
    assert "Channel 5 of layer 3" in said(at) and at.selectbox(key="layer").value == 3
    assert at.query_params["channel"] in ("5", ["5"])
    at = fine(at.selectbox(key="layer").set_value(2).run())  # another layer, its most sensitive channel
    assert "channel" not in at.query_params and "of layer 2" in said(at)


@pytest.mark.parametrize(
    ("text", "words"), [("fox", "such as"), ("9 1", "layers 0 to 5"), ("1 99", "channels 0 to 47")]
)
def test_what_is_no_channel_is_one_sentence(visit: Visit, text: str, words: str) -> None:
    at = fine(visit("channels"))
    at = fine(at.text_input(key="find-channel").set_value(text).run())
    assert words in at.warning[0].value


def test_a_drag_over_the_map_zooms(visit: Visit) -> None:
    at = fine(visit("channels", view="raw"))
    at = fine(at.text_input(key="zoom-to").set_value("2.6 10.2").run())
    assert at.slider(key="zoom-shown").value == (3, 10)
    at = fine(at.text_input(key="zoom-to").set_value("hello").run())
    assert at.slider(key="zoom-shown").value == (3, 10)
    at = fine(at.button(key="whole-map").click().run())
    assert at.slider(key="zoom-shown").value == (0, 47)
    at = fine(visit("channels"))
    at = fine(at.text_input(key="zoom-to").set_value("0.301 1").run())  # ranks 2 to 10, on a logarithmic axis
    assert at.slider(key="zoom-shown").value == (2, 10)


@pytest.mark.parametrize(
    ("layer", "unit", "words"),
    [
        (0, 1, "leaves layer 0 whole"),
        (1, 5, "be **kept**, in what layers 1 to 2 become"),
        (2, 5, "be **dropped** when layers 1 to 2"),
        (3, 5, "**remove** layer 3"),
    ],
)
def test_where_a_channel_would_go(layer: int, unit: int, words: str) -> None:
    plan = KeptByLayer([[0], [1, 2]], {1: KeptUnits([5], [0]), 2: KeptUnits([0], [1]), 3: KeptUnits([], [])}, False)
    assert words in card.foreseen(plan, "ffn", layer, unit)
    assert "only a run" in card.foreseen(None, "ffn", layer, unit)


def test_where_a_channel_went_is_read_off_the_run_of_the_plan(visit: Visit, lab: Lab) -> None:
    at = fine(visit("channels", method="come", target="4", layer="3", channel="5"))
    assert "channel 5 of layer 3** is" in said(at) and "would" not in said(at).split("channel 5 of layer 3")[1][:80]
    assert "Hatched: dropped by the run of your plan" in said(at)


def test_the_model_is_asked_once_and_its_words_are_shown_as_text(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    questions: list[tuple[str, int, int]] = []

    def answered(what: str, answer: object) -> Callable[..., object]:
        return lambda _, layer, channel, **__: questions.append((what, layer, channel)) or answer

    monkeypatch.setattr(client, "next_words", answered("words", WORDS))
    monkeypatch.setattr(client, "contexts", answered("contexts", [CONTEXT]))
    at = fine(visit("channels", layer="3", channel="5"))
    assert not questions  # of a large model not before it is asked for
    at = fine(at.button(key="ask-channel").click().run())
    until = time.monotonic() + 10
    while "come-contexts" not in said(at) and time.monotonic() < until:
        at = fine(at.run())
    assert questions == [("words", 3, 5), ("contexts", 3, 5)]
    # The activation is negative there, which turns the two lists round.
    assert "Where its activation is negative (−), promotes" in said(at) and "<mark>fox</mark>" in said(at)
    assert "where positive (+), the other way round</b><span>␣the</span><span>&lt;b&gt;</span>" in said(at)
    assert "−1.25" in said(at)


def test_a_small_model_is_asked_when_a_channel_is_opened(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[int, int]] = []
    monkeypatch.setattr(asking, "begin", lambda _, layer, channel: begun.append((layer, channel)))
    at = visit("channels")
    monkeypatch.setattr(card, "ITSELF", 1e12)
    fine(at.run())
    assert not begun
    fine(at.text_input(key="find-channel").set_value("2 7").run())
    assert begun == [(2, 7)]


def test_why_there_is_no_answer_is_one_sentence(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ComeError("Nobody is there.")

    monkeypatch.setattr(client, "next_words", refuse)
    at = fine(visit("channels", layer="3", channel="5"))
    at = at.button(key="ask-channel").click().run()
    until = time.monotonic() + 10
    while not at.warning and time.monotonic() < until:
        at = at.run()
    assert "Nobody is there." in at.warning[0].value


def test_the_first_layer_that_the_plan_touches_is_opened_first(visit: Visit) -> None:
    for windows, layer in (("2-3,4-5", 2), ("4-5", 4)):
        assert visit("channels", windows=windows).session_state["layer"] == layer
    assert visit("channels", windows="2-3", layer="1").session_state["layer"] == 1  # a link says otherwise


def test_the_words_of_a_channel_are_told_for_the_sign_that_its_activation_has() -> None:
    found, positive = NextWords(**WORDS), Context(**CONTEXT | {"activation": 2.7})  # type: ignore[arg-type]
    shown = card.spoken_for(found, [positive])
    assert "positive (+), promotes</b><span>␣the" in shown and "where negative (−), the other way round" in shown
    assert card.spoken_for(found, None) == shown, "before the tokens are known, as they are stored"
    assert "<td>+2.7</td>" in follow_unit.table([positive])
