"""The plan page's "Fit into": targets of memory, file size and speed, told as layers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.plan import fit
from come.errors import ComeError
from come.estimation.latency import FILE, Latency, _key
from come.estimation.targets import file_at, memory_at
from come.files import human_bytes
from come.kept import keep
from come.models import Facts, describe
from come.request import CONTEXT
from come.runs import Run
from come.runs.sweep import variant
from come.serving.whatif.question import Subject
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")
LAYERS = 6


@pytest.fixture(autouse=True)
def nothing_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the page measured")

    monkeypatch.setattr(sys.modules[Latency.__module__], "measure_latency", refuse)


@pytest.fixture
def facts(lab: Lab) -> Facts:
    return describe(str(lab.model))


def fine(at: AppTest) -> AppTest:
    assert not at.exception and not at.error
    return at


def asked(visit: Visit, kind: str, size: str) -> AppTest:
    at = fine(visit("plan", method="come"))
    at = fine(at.pills(key="fit-kind").set_value([kind]).run())
    return fine(at.text_input(key=f"fit-{kind}").set_value(size).run())


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_size_becomes_layers_with_the_reason(visit: Visit, facts: Facts, kind: str) -> None:
    context = min(CONTEXT, facts.max_position_embeddings)
    takes = memory_at(facts, 4, facts.dtype, context) if kind == "memory" else file_at(facts, 4, facts.dtype)
    at = asked(visit, kind, str(takes))
    assert any(each.value == f"4 layers: the {kind} allows no more." for each in at.markdown)
    weights = f"{human_bytes(facts.bytes_at(4, facts.dtype))} of weights in {facts.dtype}"
    assert any(weights in each.value and "keys and values" in each.value for each in at.caption) == (kind == "memory")
    assert at.button(key="fit-take").label == f"Leave 4 of {LAYERS} layers"
    at = fine(at.button(key="fit-take").click().run())
    assert at.query_params["target"] in ("4", ["4"])
    (reason,) = [each for each in at.caption if each.value.startswith(f"4 layers for at most {human_bytes(takes)} of")]
    assert f"the {kind} allows no more." in reason.help
    at = fine(at.slider(key="target").set_value(5).run())
    assert not [each for each in at.caption if " for at most " in each.value], "chosen otherwise now"


def test_several_are_met_at_once(visit: Visit, facts: Facts) -> None:
    context = min(CONTEXT, facts.max_position_embeddings)
    at = asked(visit, "memory", str(memory_at(facts, 5, facts.dtype, context)))
    at = fine(at.pills(key="fit-kind").set_value(["file", "memory"]).run())
    assert at.text_input(key="fit-memory").value == str(memory_at(facts, 5, facts.dtype, context)), (
        "what was typed stays"
    )
    at = fine(at.text_input(key="fit-file").set_value(str(file_at(facts, 3, facts.dtype))).run())
    said = "3 layers: the file allows no more; the memory would allow 5."
    assert said in [each.value for each in at.markdown]
    at = fine(at.button(key="fit-take").click().run())
    assert at.query_params["target"] in ("3", ["3"])
    at = fine(at.pills(key="fit-kind").set_value([]).run())
    assert any("meets them all" in each.value for each in at.caption)
    assert "fit-take" not in [button.key for button in at.button]


def test_it_begins_with_less_than_the_original_takes(visit: Visit) -> None:
    at = fine(visit("plan", method="come"))
    assert at.text_input(key="fit-memory").value.endswith(" MiB")


@pytest.mark.parametrize(
    ("size", "words"), [("a lot", "is no size"), ("1 KiB", "Ask for at least"), ("-3 GB", "no size")]
)
def test_what_cannot_be_is_one_sentence(visit: Visit, size: str, words: str) -> None:
    at = asked(visit, "memory", size)
    assert [warning.value for warning in at.warning if words in warning.value]
    assert "fit-take" not in [button.key for button in at.button]


def test_where_speed_was_not_measured_the_model_is_timed_at_a_press(
    visit: Visit, facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems: list[ComeError] = [ComeError("The machine is out of sorts.", "Ask again.")]

    def latency(subject: Subject, **_: Any) -> str:
        assert (subject.model, subject.dtype) == (facts.source, facts.dtype)
        if problems:
            raise problems.pop()
        keep(FILE, _key(facts, facts.dtype, "auto"), asdict(Latency({1: 0.002, 6: 0.007}, "this machine", 0.0)))
        return "measured"

    monkeypatch.setattr(fit.client, "latency", latency)
    at = fine(visit("plan", method="come"))
    at = fine(at.pills(key="fit-kind").set_value(["speed"]).run())
    assert any("not timed on this machine yet" in each.value for each in at.markdown)
    at = ended(at.button(key="time-model").click().run())
    assert "The machine is out of sorts. Ask again." in [each.value for each in at.warning]
    at = ended(at.button(key="time-model").click().run())
    assert any("Measured on this machine" in each.value for each in at.markdown)
    assert at.button(key="fit-take").label == f"Leave 4 of {LAYERS} layers"


def ended(at: AppTest) -> AppTest:
    """The page once its timing is over."""
    job = at.session_state["_timing-the-model"]
    assert job.wait(60)
    return fine(at.run())


def test_a_speed_up_becomes_layers_where_times_are_known(visit: Visit, facts: Facts) -> None:
    keep(FILE, _key(facts, facts.dtype, "auto"), asdict(Latency({1: 0.002, 3: 0.004, 6: 0.007}, "a machine", 0.0)))
    at = fine(visit("plan", method="come"))
    at = fine(at.pills(key="fit-kind").set_value(["speed"]).run())
    # 1 ms a layer and 1 ms for the rest: 7 ms are 1.25 times 5.6 ms, which 4 layers keep to.
    assert any(
        each.value.startswith("4 layers: the speed-up allows no more. Measured on a machine") for each in at.markdown
    )
    at = fine(at.number_input(key="fit-speed").set_value(50.0).run())
    assert any("Ask for at most 3.4" in warning.value for warning in at.warning)


def test_what_was_asked_for_stands_beside_the_run(visit: Visit, facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    size = file_at(facts, 4, facts.dtype)
    at = asked(visit, "file", str(size))
    at = fine(at.button(key="fit-take").click().run())
    at = at.button(key="go-to-run").click().run().switch_page("../pages/run.py").run()
    at.button(key="start").click().run()
    assert {run.config.target_layers for run in launched} == {4}
    assert all(run.config.asked is not None and run.config.asked.max_bytes == size for run in launched)
    assert variant(launched[0].config, "come", 5, 0).asked is None


def test_methods_that_keep_every_layer_have_none(visit: Visit) -> None:
    at = fine(visit("plan", method="finercut"))
    assert "fit-memory" not in [field.key for field in at.text_input]
