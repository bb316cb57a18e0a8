"""What merging windows costs, kept beside an analysis: found out a window at a time, within seconds, never twice."""

from __future__ import annotations

import json

import pytest
import torch

import come
from come.errors import ComeError
from come.events import Event
from come.pruning.windows import besides_dearest
from come.runs import execute, window_costs
from come.runs.window_costs import FILE, measure, missing, read
from tests.runs.conftest import Create


def test_windows_are_measured_once_and_kept(new_run: Create) -> None:
    run = new_run(kind="analyze")
    execute(run)
    told: list[Event] = []
    assert measure(run, [2], on_progress=told.append) == 5
    assert {cost.window for cost in read(run)} == {(first, first + 1) for first in range(5)}
    measured = run.measurement()
    assert measured is not None
    by_influence = [besides_dearest(measured.block_influence, cost.window) for cost in read(run)]
    assert by_influence == sorted(by_influence)
    assert [event.step for event in told if event.stage == "windows"] == list(range(6))
    assert missing(run, [2]) == [] and measure(run, [2]) == 0
    assert len(missing(run, [2, 3])) == 4
    assert measure(run, [2, 3]) == 4
    assert len(read(run)) == 9
    assert measure(run, [2], only=(1, 4)) == 1 and measure(run, [2], only=(1, 4)) == 0
    assert read(run)[-1].window == (1, 4)


@pytest.mark.slow
def test_windows_are_scored_on_several_kinds_of_text(new_run: Create) -> None:
    run = new_run(kind="analyze")
    execute(run)
    measure(run, [2], seconds=0)
    (found,) = read(run)
    config = run.config
    bundle = come.load(config.model)
    own, other = (
        come.tokens(bundle, text, n, config.seq_len) for text, n in ((config.text, config.n_tokens), ("mix", 128))
    )
    assert len(other) == len(own) // 4
    scored = torch.cat([own[-len(other) :], other])
    merged = come.compress(bundle, own, "come-joint", windows=[found.window], sweep=False).bundle
    assert come.kl_divergence(merged, bundle, scored) == pytest.approx(found.merged, rel=1e-4)


@pytest.mark.slow
def test_what_was_begun_is_gone_on_with(new_run: Create) -> None:
    run = new_run(kind="analyze")
    execute(run)
    assert measure(run, [2], seconds=0) == 1  # one always is
    looks = iter([True, True, True, False])
    assert measure(run, [2], go_on=lambda: next(looks)) == 2
    assert len(read(run)) == 3
    (run.path / FILE).write_text((run.path / FILE).read_text() + '{"version": 1, "first": 3, "la')
    assert measure(run, [2]) == 2
    assert len(read(run)) == 5


@pytest.mark.slow
def test_lines_that_say_something_else_are_left_out(new_run: Create) -> None:
    run = new_run(kind="analyze")
    execute(run)
    measure(run, [2], seconds=0)
    (line,) = [json.loads(each) for each in (run.path / FILE).read_text().splitlines()]
    for other in ({"version": 0}, {"odd": 1}, {"first": 1}):
        (run.path / FILE).write_text(json.dumps(line | other) + "\n")
        assert len(read(run)) == (1 if other == {"first": 1} else 0)


def test_without_an_analysis_there_is_nothing_to_go_by(new_run: Create) -> None:
    with pytest.raises(ComeError, match="holds no analysis"):
        window_costs.missing(new_run(kind="analyze"), [2])
