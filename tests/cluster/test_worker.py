"""The side on the cluster, without a cluster: a worker is a plain object."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from come.cluster import layers
from come.cluster.board import Board, Teller
from come.cluster.crew import _packed
from come.cluster.drive import chains
from come.cluster.mirror import UrlFolder, fetch, send, stamps_of
from come.cluster.worker import Worker
from come.request import RunConfig
from come.runs import Sweep, cluster_target, create, execute, prepare
from come.runs.process import claim
from come.runs.store import CANCEL_REQUEST
from tests.runs.conftest import Create


def worker(text: str = "head:6379") -> Worker:
    place = cluster_target(text)
    assert place is not None
    return Worker(place)


def test_a_worker_that_sees_the_directory_works_in_it(new_run: Create) -> None:
    run, there = new_run(keep_model=False), worker()
    claim(run, "head:6379")
    before = run.written_state()
    assert there.meet({run.path: before}).sees
    there.work()
    state = run.state()
    assert (state.status, state.pid, state.where) == ("done", before.pid, "head:6379")


def test_one_that_does_not_works_in_a_copy(new_run: Create) -> None:
    run, same, there = new_run(keep_model=False), new_run(keep_model=False), worker("head:6379?files=ray")
    claim(run, "head:6379?files=ray")
    assert not there.meet({run.path: run.written_state()}).sees
    there.unpack({run.id: _packed(run)})
    there.work()
    assert run.state().status == "queued"
    assert there.folder is not None
    execute(same)
    for name in there.stamps()[run.id]:
        content = there.read(run.id, name, 0)
        assert content is not None
        (run.path / name).write_bytes(content)
    assert run.state().status == "done" and run.plan() == same.plan()
    assert there.read(run.id, "gone", 0) is None
    there.close()
    assert not there.folder.exists()


def test_another_run_in_a_directory_of_that_name_is_not_it(new_run: Create) -> None:
    run = new_run()
    claim(run)
    theirs = run.written_state().model_copy(update={"host": "laptop"})
    assert not worker().meet({run.path: theirs, Path("/nowhere/at/all"): theirs}).sees


def test_files_go_through_a_url(new_run: Create, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    run, there = new_run(keep_model=False), worker(f"head:6379?files={url}")
    claim(run, "head")
    send(run.path, UrlFolder(f"{url}/{run.id}"), {})
    there.meet({run.path: run.written_state()})
    there.download([run.id])
    there.work()
    known = stamps_of(run.path)
    fetch(UrlFolder(f"{url}/{run.id}"), run.path, known)
    assert run.state().status == "done" and run.results()["pruned"]["perplexity"] > 0


def test_a_run_that_was_asked_to_end_ends(new_run: Create) -> None:
    run, other, there = new_run(), new_run(keep_model=False), worker("head:6379?files=ray")
    there.unpack({each.id: _packed(each) for each in (run, other)})
    there.ask(run.id, CANCEL_REQUEST)
    there.work()
    assert [each.written_state().status for each in there.runs] == ["cancelled", "done"]
    there.close()


def test_a_fault_of_ours_names_the_log_on_the_users_side(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    from come.runs import pipeline

    run, there = new_run(), worker("head:6379?files=ray")
    there.meet({run.path: run.written_state()})
    there.unpack({run.id: _packed(run)})

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "compress", fail)
    there.work()
    state = there.runs[0].written_state()
    assert state.status == "failed" and str(run.path / "log.txt") in state.hint
    there.close()


def test_cells_of_a_method_and_seed_share_a_worker(asked: dict[str, Any]) -> None:
    base = RunConfig(**{**asked, "target_layers": None})
    made = prepare(Sweep(base, ["come", "random"], targets=[3, 4], seeds=[0, 1]).cells())
    found = [
        [(run.config.seed, run.config.method, run.config.target_layers) for run in chain] for chain in chains(made)
    ]
    assert found == [[(seed, method, 4), (seed, method, 3)] for seed in (0, 1) for method in ("come", "random")]


def test_word_of_a_task_arrives_and_it_can_be_stopped() -> None:
    board = Board()
    with Teller(3, board.say) as teller:
        teller.add({"step": 1})
        assert not teller.stopped()
        board.stop()
    assert board.hear() == [(3, None), (3, {"step": 1})] and board.hear() == []
    assert teller.stopped()

    def gone(_: object) -> bool:
        raise ConnectionError

    with Teller(3, gone) as teller:  # nobody hears: the work goes on
        teller.add({"step": 1})
    assert not teller.stopped()


def test_the_local_queue_does_not_wait_for_a_clusters_runs(new_run: Create) -> None:
    from come.runs.queue import _ahead
    from come.runs.state import identity

    elsewhere, here = new_run(), new_run()
    elsewhere.update(**identity(1), where="head:6379")
    assert _ahead(here) == 0
    elsewhere.update(where="")
    assert _ahead(here) == 1


def test_states_travel_as_bytes_whatever_their_dtype(tmp_path: Path) -> None:
    import torch

    from come.training.states import States

    for dtype in (torch.float32, torch.bfloat16):
        states = States((2, 3, 4), dtype, tmp_path / f"{dtype}.states")
        states.tensor.copy_(torch.randn(2, 3, 4))
        arrived = layers._states(layers._bytes_of(states.tensor), states)
        assert torch.equal(arrived.tensor, states.tensor) and arrived.path is None


def test_create_and_claim_keep_the_place_out_of_the_request(asked: dict[str, Any]) -> None:
    run = create(RunConfig(**asked))
    before = run.config
    claim(run, "ray:auto")
    assert run.config == before and run.state().where == "ray:auto"
