from __future__ import annotations

from pathlib import Path

import pytest

from app.components.cost_line import NOT_MEASURED, cost
from come.estimation.device import Device, known_device, measure_device, remember
from come.models import describe
from come.request import RunConfig
from tests.tiny import tiny_folder


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    model = str(tiny_folder(tmp_path))
    return [RunConfig(model=model, target_layers=layers, n_tokens=512, seq_len=64) for layers in (5, 4)]


def device(**changes: object) -> Device:
    measured = measure_device(seconds=0.05)
    return Device(**{**measured.__dict__, **changes})  # type: ignore[arg-type]


def test_before_any_run_it_says_what_is_missing(requests: list[RunConfig]) -> None:
    assert cost(requests, describe(requests[0].model), None).sentence == NOT_MEASURED
    usual = cost(requests, describe(requests[0].model), None, usual=True)
    assert usual.sentence.startswith("Expected on two processor cores: about ") and usual.seconds


def test_runs_one_after_the_other_add_up(requests: list[RunConfig]) -> None:
    remember(device(), "float32")
    assert known_device("float32") is not None
    both = cost(requests, describe(requests[0].model), None)
    assert both.sentence.startswith("Expected: about ")
    assert not both.warnings


def test_what_does_not_fit_is_said(requests: list[RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    small = device(memory=1000)
    monkeypatch.setattr("app.components.cost_line.known_device", lambda _dtype: small)
    (warning,) = cost(requests, describe(requests[0].model), None).warnings
    assert "memory" in warning


def test_an_impossible_request_is_one_sentence(requests: list[RunConfig]) -> None:
    remember(device(), "float32")
    impossible = requests[0].model_copy(update={"target_layers": 99})
    assert "out of range" in cost([impossible], describe(impossible.model), None).sentence
