from __future__ import annotations

import importlib
import json
from pathlib import Path

import pytest

from come.cli import main
from come.estimation.device import Device, known_device
from tests.tiny import tiny_folder

SMALL = ("--method", "come", "--tokens", "512", "--seq-len", "64", "--evaluation-tokens", "256", "--dry-run")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def model(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path, layers=6))


def a_device(monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    def measured(dtype: str, seconds: float = 1.0, device: str = "auto") -> Device:
        return Device("a machine", {dtype: 1e9}, 1e9, memory, measured=True)

    monkeypatch.setattr(importlib.import_module("come.estimation.cost"), "measure_device", measured)


def test_it_tells_and_starts_nothing(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", model, "--target-layers", "4", *SMALL]) == 0
    out, err = capsys.readouterr()
    for word in ("compress", "evaluate pruned", "save", "all", "memory", "disk", "measured on"):
        assert word in out
    assert "Warning" not in out
    assert err == ""
    assert not (tmp_path / "runs").exists()
    assert known_device("float32") is not None


def test_as_json(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", model, "--sparsity", "0.2", "--json", *SMALL]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["seconds"] == pytest.approx(sum(told["seconds_by_stage"].values()))
    assert told["fits"] is True
    assert {"memory_bytes", "disk_bytes", "warnings", "assumptions", "device", "layers"} <= set(told)
    assert not (tmp_path / "runs").exists()


def test_it_warns_where_the_run_does_not_fit(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_device(monkeypatch, memory=1000)
    assert main(["run", "--model", model, "--target-layers", "4", *SMALL]) == 0
    assert "Warning: The run needs" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--target-layers", "9"), "out of range"),
        (("--target-layers", "4", "--seq-len", "512"), "longer than"),
        (("--target-layers", "4", "--tokens", "8"), "do not fill"),
        (("--target-layers", "4", "--device", "toaster"), "no device"),
    ],
)
def test_an_impossible_run_is_one_sentence(
    model: str, arguments: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "--model", model, *SMALL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
