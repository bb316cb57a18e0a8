"""Where the compare page opens when there is a newer run: at its size, if it has a rival there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.app import synthetic

Visit = Callable[..., AppTest]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A sweep of three methods at 27 layers."""
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "made-up"))
    synthetic.sweep(tmp_path / "made-up", ("come", "shortgpt", "sleb"), (27,), measure=("ppl",))
    return tmp_path / "made-up"


def newer(runs: Path, number: str, method: str, layers: int) -> None:
    results = synthetic.results_of(method, layers, 0, ("ppl",))
    synthetic.write(runs, number, results, method, layers)


def said(at: AppTest) -> str:
    assert not at.exception and not at.error
    return "\n".join(each.value for each in at.markdown)


def test_a_newest_run_without_a_rival_is_named_beside_the_verdict(visit: Visit, runs: Path) -> None:
    assert "newest run" not in said(visit("compare"))
    newer(runs, "9990", "come", 24)
    at = visit("compare")
    assert "## At 27 layers " in said(at)
    assert "No rival yet for your newest run, **CoMe, 24 layers**: perplexity " in said(at)
    assert "original's" in said(at)


def test_a_model_that_is_alone_is_drawn_beside_the_original(visit: Visit, runs: Path) -> None:
    newer(runs, "9990", "come", 24)
    at = visit("compare", **{"judged-at": "24"})
    assert "## At 24 layers CoMe has perplexity " in said(at) and "newest run" not in said(at)
    assert not [each for each in at.selectbox if each.key == "compared-with"]
    assert "times that of the original" in str(at.get("plotly_chart")[0].proto)


def test_a_rival_is_run_at_the_size_of_the_run_that_has_none(visit: Visit, runs: Path) -> None:
    newer(runs, "9990", "come", 24)
    at = visit("compare", windows="4-5")  # the plan in the strip is of another size
    at = at.button(key="run-a-rival").click().run()
    assert not at.exception and not at.error
    plan = next(each.value for each in at.markdown if each.value.startswith("**Plan**"))
    assert "24 layers" in plan and at.session_state["_draft"].target_layers == 24
    assert any(button.label.startswith("Start ") for button in at.button)


def test_a_newer_run_with_a_rival_is_what_the_page_opens_at(visit: Visit, runs: Path) -> None:
    newer(runs, "9990", "come", 24)
    at = visit("compare")
    at = at.segmented_control(key="judged-at").set_value("27").run()
    newer(runs, "9991", "shortgpt", 24)
    at = at.run()
    assert "## At 24 layers " in said(at) and "newest run" not in said(at)
    at = at.segmented_control(key="judged-at").set_value("27").run()
    assert "## At 27 layers " in said(at)  # a choice made since then stays
    assert "## At 27 layers " in said(visit("compare", **{"judged-at": "27"}))  # and so does a link's
