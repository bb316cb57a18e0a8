"""What a run holds and leaves: memory on the device and beside it, and the disk."""

from __future__ import annotations

import dataclasses

import pytest

from come.estimation.cost import estimate
from come.estimation.device import Device
from come.estimation.published import published
from come.measurement.hidden_state_cache import HiddenStateCache
from come.models import Facts
from tests.estimation.requests import DEVICE, GB, GPU, request


@pytest.mark.parametrize("device", [DEVICE, GPU])
def test_a_refit_holds_its_sums_and_what_it_solves(facts: Facts, device: Device) -> None:
    small = {"target_layers": 7, "n_tokens": 256, "evaluation_tokens": 64, "batch_size": 1}
    wide = dataclasses.replace(facts, intermediate_size=4096)
    plain = estimate(request(**small), wide, device)
    assert "refit" not in plain.memory_by_part
    for changes in (
        {"options": {"refit": True}},
        {"recover": ["refit"]},
        {"recover": ["default"]},
        {"method": "shortgpt", "recover": ["logits", "refit"]},
    ):
        told = estimate(request(**small, **changes), wide, device)
        # Two sums and two arrays to solve them, in float64; half of one more was measured.
        assert 4 <= told.memory_by_part["refit"] / (8 * 4096**2) <= 5
        assert told.memory_bytes - plain.memory_bytes > 0.9 * told.memory_by_part["refit"]
    assert "refit" not in estimate(request(**small, recover=["logits"]), wide, device).memory_by_part


@pytest.mark.parametrize("method", ["come-joint", "auto"])
@pytest.mark.parametrize("device", [DEVICE, GPU])
def test_a_joint_choice_holds_the_sums_of_two_layers_inputs(facts: Facts, device: Device, method: str) -> None:
    wide = dataclasses.replace(facts, intermediate_size=4096)
    small = {"n_tokens": 256, "evaluation_tokens": 64, "batch_size": 1}
    one, several = (estimate(request(**small, method=method, target_layers=n), wide, device) for n in (7, 4))
    shortgpt = estimate(request(**small, method="shortgpt", target_layers=4), wide, device)
    sums = several.memory_by_part["joint choice"]
    assert sums == one.memory_by_part["joint choice"] >= (8 + 4 + 4 + 4) * (2 * 4096) ** 2  # all of them at once
    assert several.memory_bytes - shortgpt.memory_bytes > 0.9 * sums


def test_a_mask_holds_its_output_maps_and_what_its_tuning_solves(facts: Facts) -> None:
    plain, masked, tuned = (
        estimate(request(method=method, options=options), facts, DEVICE)
        for method, options in (("taylor", {"plus": False}), ("fisher", {"tune": False}), ("fisher", {}))
    )
    assert "merged layers" not in plain.memory_by_part
    assert masked.memory_by_part["merged layers"] == 8 * 32 * (48 + 32) * 4
    assert tuned.memory_by_part["merged layers"] == 2 * masked.memory_by_part["merged layers"]
    assert tuned.memory_by_part["mask tuning"] >= 4 * 4 * 48**2 and "mask tuning" not in masked.memory_by_part


def test_a_small_budget_means_layers_run_again_but_less_memory(facts: Facts) -> None:
    roomy = estimate(request(n_tokens=65536), facts, DEVICE)
    tight = estimate(request(n_tokens=65536, options={"memory_budget": 0}), facts, DEVICE)
    assert tight.seconds_by_stage["compress"] > roomy.seconds_by_stage["compress"]
    assert tight.memory_bytes < roomy.memory_bytes
    kept = (facts.layers - 1) // HiddenStateCache(8, 32, 65536, 4, 2 * GB).stride * 32 * 65536 * 4
    assert roomy.memory_by_part["hidden states"] == kept


def test_what_does_not_fit_is_warned_of(facts: Facts) -> None:
    small = Device("a small machine", {"float32": 1e9}, 1e9, 1_000_000)
    told = estimate(request(), facts, small)
    assert not told.fits
    assert len(told.warnings) == 1
    assert "memory" in told.warnings[0] and "choose" in told.warnings[0]
    assert told.seconds > 0


def test_a_full_disk_is_warned_of(facts: Facts) -> None:
    full = Device("a machine", {"float32": 1e9}, 1e9, 8 * GB, disk_free=100)
    told = estimate(request(), facts, full)
    assert not told.fits
    assert "disk" in told.warnings[0]


def test_a_gpu_and_its_main_memory_are_two_rooms(facts: Facts) -> None:
    told = estimate(request(), facts, GPU)
    assert told.fits
    starved = Device("a GPU", {"float32": 1e9}, 1e9, 8 * GB, kind="cuda", host_memory=1000, disk_free=GB)
    assert "main memory" in estimate(request(), facts, starved).warnings[0]


def test_weights_that_do_not_fit_lie_in_main_memory_and_cost_time(facts: Facts) -> None:
    tiny = Device("a GPU", {"float32": 1e9}, 1e9, 100_000, kind="cuda", host_memory=16 * GB, disk_free=GB)
    spread = estimate(request(device="balanced"), facts, tiny)
    assert "main memory" in spread.warnings[-1]
    assert spread.seconds > estimate(request(device="balanced"), facts, GPU).seconds
    assert any("--device balanced" in warning for warning in estimate(request(device="cuda"), facts, tiny).warnings)
    assert estimate(request(device="auto"), facts, tiny) == spread, "it is spread by itself"


def test_more_devices_hold_more_and_are_not_faster(facts: Facts) -> None:
    config = request(dtype="bfloat16")
    one, four = (estimate(config, facts, published("A100 80GB", count)) for count in (1, 4))
    assert one.seconds == four.seconds
    assert any("extrapolation" in sentence for sentence in four.assumptions)
