"""Devices: measured, remembered, and what is free of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from come.errors import ComeError
from come.estimation.device import Device, known_device, measure_device, remember
from come.estimation.published import published

GB = 10**9
GPU = Device("a GPU", {"float32": 1e9}, 1e9, 8 * GB, kind="cuda", host_memory=16 * GB, disk_free=GB)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))


def test_a_measured_device_is_remembered() -> None:
    assert known_device("float32") is None
    found = measure_device("float32", seconds=0.01)
    assert found.measured and found.kind in ("cpu", "cuda", "mps")
    assert found.flops["float32"] > 1e6 and found.memory > 0
    remember(found, "float32")
    remember(measure_device("bfloat16", seconds=0.01), "bfloat16")
    known = known_device("float32")
    assert known is not None and known.flops == found.flops
    assert known_device("float16") is None


def test_what_is_free_of_a_gpu_is_looked_up_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    free = [5 * GB, 3 * GB]

    def looked(place: torch.device) -> tuple[int, int]:
        asked.append(str(place))
        if not free:
            raise RuntimeError("the GPU does not answer")
        return free.pop(0), 8 * GB

    for name in ("auto", "cuda:1", "balanced"):
        remember(GPU, "float32", name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    kept = known_device("float32")
    assert kept is not None and kept.memory == GPU.memory, "no GPU is here: as it was"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "mem_get_info", looked)
    found = [known_device("float32", name) for name in ("auto", "cuda:1", "balanced")]
    assert [each and each.memory for each in found] == [5 * GB, 3 * GB, GPU.memory]
    assert asked == ["cuda", "cuda:1", "cuda"]


def test_a_spoilt_cache_is_no_cache(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    for content in ("", "[]", "{", '{"a": 1}'):
        (tmp_path / "home" / "device.json").write_text(content)
        assert known_device("float32") is None
    remember(GPU, "float32")
    assert known_device("float32") is not None


@pytest.mark.parametrize(
    "make",
    [
        lambda: measure_device("float8"),
        lambda: measure_device("float32", device="toaster"),
        lambda: published("A1000"),
        lambda: Device("nothing", {}, 1.0, 1),
        lambda: Device("standing still", {"float32": 0.0}, 1.0, 1),
    ],
)
def test_devices_that_make_no_sense_are_refused(make: Any) -> None:
    with pytest.raises(ComeError):
        make()
