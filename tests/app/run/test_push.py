"""Pushing a run's model to the hub from its page."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from come.export.hub import Destination
from come.runs import Run
from come.serving import push as pushing
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
TOKEN = "hf_SecretOfTheTest"


@pytest.fixture
def run(lab: Lab) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come" and run.plan())


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    monkeypatch.setenv("HF_TOKEN", TOKEN)


def told(run: Run, **job: object) -> None:
    (run.path / "takeaway").mkdir(exist_ok=True)
    (run.path / "takeaway" / "push.json").write_text(json.dumps(job))


def test_a_push_is_started_under_the_name_that_was_written(
    visit: Visit, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[str, Destination]] = []
    monkeypatch.setattr(pushing, "start", lambda run, to: started.append((run.id, to)))
    at = visit("run", run=run.id)
    assert not at.exception and at.button(key=f"push-start-{run.id}").disabled
    at.text_input(key=f"push-name-{run.id}").set_value("just-a-name").run()
    assert any("is no name on the hub" in each.value for each in at.caption)
    assert at.button(key=f"push-start-{run.id}").disabled
    at.text_input(key=f"push-name-{run.id}").set_value(" me/tiny ").run()
    assert any("model.safetensors" in each.value and "README.md" in each.value for each in at.caption)
    assert any("library_name: transformers" in each.value and "name: tiny" in each.value for each in at.code)
    at.button(key=f"push-start-{run.id}").click().run()
    at.checkbox(key=f"push-private-{run.id}").uncheck().run()
    at.button(key=f"push-start-{run.id}").click().run()
    assert started == [(run.id, Destination("me/tiny", private=True)), (run.id, Destination("me/tiny"))]
    assert TOKEN not in str(at)


def test_it_ends_in_a_link_or_in_a_sentence(visit: Visit, run: Run) -> None:
    told(run, status="done", values={"repo": "me/tiny", "url": "https://hub.example/me/tiny"})
    at = visit("run", run=run.id)
    assert any("[me/tiny](https://hub.example/me/tiny)" in each.value for each in at.markdown)
    told(run, status="failed", error="The token may not write.", hint="Use another.")
    at = visit("run", run=run.id)
    assert any("may not write" in each.value for each in at.error)


def test_without_a_token_it_says_so(visit: Visit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    at = visit("run", run=run.id)
    assert any("a token in `HF_TOKEN`" in each.value for each in at.caption)
    assert f"push-start-{run.id}" not in [button.key for button in at.button]


def test_strangers_are_offered_nothing(visit: Visit, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    at = visit("run", run=run.id)
    assert any(each.value == "Take it home" for each in at.header)
    assert f"push-start-{run.id}" not in [button.key for button in at.button]
    assert not any("HF_TOKEN" in each.value for each in at.caption)
