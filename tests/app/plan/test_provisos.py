"""What a prediction leaves out of a plan's settings is said beside it."""

from __future__ import annotations

import pytest

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
