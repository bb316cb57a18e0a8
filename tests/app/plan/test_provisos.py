"""What a prediction leaves out of a plan's settings is said beside it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app import example_runs
from app.inspect import inspected_run
from app.plan.whatif import panel
from app.state import session
from app.state.choice import Choice, Draft


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, False), ({"attention": "first"}, False), ({"attention": "chosen"}, True), ({"lookahead": 0.0}, True)],
)
def test_settings_of_a_fit_that_a_prediction_lacks_are_named(
    options: dict[str, object], said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "draft", lambda: Draft(method="come-joint", options=options))
    monkeypatch.setattr(session, "choice", Choice)
    told = " ".join(panel._provisos(""))
    assert all((f"usual {name}" in told) == said for name in options)


@pytest.mark.parametrize(
    ("method", "tokens", "said"), [("come-joint", 8192, True), ("come-joint", 4096, False), ("come", 8192, False)]
)
def test_fewer_tokens_than_the_run_fits_on_are_named(
    method: str, tokens: int, said: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "draft", lambda: Draft(method=method))
    monkeypatch.setattr(session, "choice", lambda: Choice(tokens=tokens))
    assert ("Fitted on 4,096 tokens" in " ".join(panel._provisos(""))) == said


@pytest.mark.parametrize("swept", [False, True])
def test_a_pass_that_a_prediction_lacks_is_named(swept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "choice", Choice)
    monkeypatch.setattr(session, "draft", lambda: Draft(method="come-joint", options={"sweep": swept} if swept else {}))
    assert ("the pass over all output maps" in " ".join(panel._provisos(""))) == swept


def test_a_setting_that_is_left_to_the_method_is_neither_on_nor_off(visit: Callable[..., AppTest]) -> None:
    at = visit("plan", method="come-joint", target="4")
    control = at.segmented_control(key="option-sweep")
    assert control.value == "auto" and "options" not in at.query_params
    at = control.set_value("off").run()
    assert not at.exception and at.segmented_control(key="option-sweep").value == "off"
    assert at.query_params["options"] in ("sweep:False", ["sweep:False"])
    at = at.segmented_control(key="option-sweep").set_value("auto").run()
    assert not at.exception and "options" not in at.query_params


def test_sensitivities_of_other_tokens_are_said_to_be_so() -> None:
    (shipped,) = [run for run in example_runs.runs() if run.config.kind == "analyze"]
    own = shipped.config.model_copy(update={"kind": "compress"})
    assert inspected_run.borrowed(own) == ""
    for other in ({"n_tokens": 2048}, {"text": "mix"}):
        assert "by the shipped analysis, on 4,096 tokens" in inspected_run.borrowed(own.model_copy(update=other))
    assert inspected_run.borrowed(own.model_copy(update={"model": "another"})) == ""
