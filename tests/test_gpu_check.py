"""The check of a GPU, in its small form on the CPU: all of its parts run, and what is out of bounds is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from scripts import gpu_check


@pytest.mark.slow
def test_all_parts_run_and_are_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.json"
    assert gpu_check.main(["--device", "cpu", "--small", "--out", str(out)]) == 0
    found = json.loads(out.read_text())
    assert list(found["parts"]) == ["exactness", "methods", "measuring", "loop", "recovery", "generation"]
    assert found["parts"]["exactness"]["figures"]["plans as on the CPU"] == "6 of 6"
    assert found["parts"]["exactness"]["figures"]["perplexity, float32, relative difference"] == 0
    printed = capsys.readouterr().out
    for part, told in found["parts"].items():
        assert all(f"| {part} | {name} |" in printed for name in told["figures"])
    assert "Everything is within its bounds." in printed


def test_what_is_not_as_on_the_cpu_is_out_of_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = gpu_check.on

    def wrong(bundle: gpu_check.Bundle, device: torch.device, dtype: torch.dtype = torch.float32) -> gpu_check.Bundle:
        copied = elsewhere(bundle, device, dtype)
        with torch.no_grad():
            copied.layers[0].mlp.down_proj.weight.mul_(-3)
        return copied

    monkeypatch.setattr(gpu_check, "on", wrong)
    size = gpu_check.Size(families=("llama",))
    _, faults = gpu_check.exactness(torch.device("cpu"), size)
    assert any("perplexity in float32" in fault for fault in faults)


def test_a_device_that_is_not_there_is_one_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert gpu_check.main(["--device", "cuda:63", "--out", str(tmp_path / "none.json")]) == 2
    told = capsys.readouterr().err
    assert told.startswith("There is no device cuda:63 here: ") and told.count("\n") == 1
    assert not (tmp_path / "none.json").exists()
