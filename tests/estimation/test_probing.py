"""What a probe takes, in the estimate of a run, of a sweep, and in how far a run is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from come.estimation.cost import estimate
from come.estimation.sweep import less_shared
from come.models import Facts
from come.request import RunConfig
from come.runs.ahead import outlook
from come.runs.state import State
from tests.asked import questions_file
from tests.estimation import requests
from tests.estimation.requests import DEVICE, GPU


def request(**changes: Any) -> RunConfig:
    return requests.request(**{"evaluate": ["probe"], "task_limit": 50, **changes})


def test_both_models_have_a_stage_of_it(facts: Facts) -> None:
    without, told = (estimate(request(evaluate=asked), facts, DEVICE) for asked in (["ppl"], ["ppl", "probe"]))
    more = {name: told.seconds_by_stage[name] for name in ("probe original", "probe pruned")}
    assert told.seconds == pytest.approx(without.seconds + sum(more.values()))
    assert more["probe original"] > more["probe pruned"] > 0
    twice = estimate(request(task_limit=100), facts, DEVICE).seconds_by_stage["probe original"]
    assert 1.8 * more["probe original"] < twice < 2.2 * more["probe original"]


def test_the_states_take_memory_where_they_lie(facts: Facts) -> None:
    plain, probed = (estimate(request(evaluate=asked), facts, GPU) for asked in ([], ["probe"]))
    assert probed.memory_by_part["probe"] == 3 * 4 * 200 * 9 * facts.hidden_size
    assert "probe" not in plain.memory_by_part
    assert estimate(request(task_limit=200), facts, GPU).host_bytes >= probed.host_bytes


def test_what_cannot_be_probed_takes_nothing(facts: Facts, tmp_path: Path) -> None:
    few = questions_file(tmp_path, "few.jsonl", 12)
    plain = estimate(request(evaluate=[]), facts, DEVICE).seconds_by_stage
    assert estimate(request(tasks=[few, "arc_easy"]), facts, DEVICE).seconds_by_stage.keys() == plain.keys()
    both = estimate(request(tasks=["facts_cloze", few]), facts, DEVICE).seconds_by_stage
    assert both == estimate(request(tasks=["facts_cloze"]), facts, DEVICE).seconds_by_stage


def test_a_sweep_probes_the_original_once(facts: Facts) -> None:
    cells = [request(target_layers=layers, seed=layers) for layers in (5, 4)]
    stages = [estimate(cell, facts, DEVICE).seconds_by_stage for cell in cells]
    first, second = less_shared(list(zip(cells, stages, strict=True)))
    assert first["probe original"] > 0 == second["probe original"]
    assert second["probe pruned"] > 0


def test_a_run_that_probes_is_that_far() -> None:
    state = State(status="running", started=0.0, stage="probe")
    foreseen = {"load": 1.0, "compress": 9.0, "probe original": 5.0, "probe pruned": 4.0, "save": 1.0}
    events = [
        {"time": time, "stage": stage, "step": 1, "of": 1, "message": ""}
        for time, stage in ((1.0, "load"), (1.0, "text"), (10.0, "compress"))
    ]
    events.append({"time": 10.0, "stage": "probe", "step": 1, "of": 100, "message": ""})
    told = outlook(request(), state, events, foreseen, 13.0)
    assert told.left == pytest.approx(7.0, abs=0.5) and told.elapsed == 13.0
