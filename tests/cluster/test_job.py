"""The side on the cluster, without a cluster: what a job does."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from come.cluster import job, layers
from come.cluster.connect import MARK
from come.cluster.drive import chains
from come.cluster.job import Copy, do
from come.cluster.layers import Mailbox, Reporter
from come.cluster.submission import OWNER
from come.cluster.sync import RemoteFolder, fetch, send, stamps_of
from come.errors import ComeError
from come.request import RunConfig
from come.runs import Run, Sweep, create, execute, prepare
from come.runs.process import claim
from come.runs.run import CANCEL_REQUEST
from tests.runs.conftest import Create


class Log:
    """What a job says, and whether it has said where it waits for files."""

    def __init__(self) -> None:
        self.told: list[dict[str, str]] = []
        self.waits = threading.Event()

    def __call__(self, **words: str) -> None:
        self.told.append(words)
        if "folder" in words:
            self.waits.set()


def given(on: str, *runs: Run, **owner: Any) -> tuple[str, dict[str, Any], list[Path]]:
    """What a job for these is told, by way of its command line."""
    whose = runs[0].written_state().model_dump(include=OWNER) | owner
    return on, json.loads(json.dumps(whose)), [run.path for run in runs]


def in_copies(on: str, *runs: Run) -> list[Run]:
    """Does a job that does not see the runs' directories, and puts their files where it waits for them."""
    log = Log()
    working = threading.Thread(target=do, args=(*given(on, *runs), log))
    working.start()
    assert log.waits.wait(60)
    copies = [Run(Path(log.told[0]["folder"]) / run.id) for run in runs]
    for run, copy in zip(runs, copies, strict=True):
        if (run.path / CANCEL_REQUEST).exists():
            copy.path.mkdir()
            (copy.path / CANCEL_REQUEST).touch()
        send(run.path, RemoteFolder(f"file://{copy.path}"), {})
    working.join()
    return copies


def test_a_job_that_sees_the_directory_works_in_it(new_run: Create) -> None:
    run, log = new_run(keep_model=False), Log()
    claim(run, "head:6379")
    before = run.written_state()
    do(*given("head:6379", run), log)
    state = run.state()
    assert (state.status, state.pid, state.where) == ("done", before.pid, "head:6379")
    assert ["folder" in told for told in log.told] == [False]


@pytest.mark.slow
def test_one_that_does_not_works_in_a_copy(new_run: Create) -> None:
    run, same = new_run(keep_model=False), new_run(keep_model=False)
    claim(run, "head:6379?files=ray")
    [copy] = in_copies("head:6379?files=ray", run)
    assert run.state().status == "queued"
    execute(same)
    fetch(RemoteFolder(f"file://{copy.path}"), run.path, {})
    assert run.state().status == "done" and run.plan() == same.plan()
    shutil.rmtree(copy.path.parent)


def test_another_run_in_a_directory_of_that_name_is_not_it(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    run, log = new_run(), Log()
    claim(run)
    monkeypatch.setattr(job, "ARRIVAL", 0.1)
    with pytest.raises(ComeError, match="did not arrive"):
        do(*given("head:6379", run, host="laptop"), log)
    assert log.waits.is_set() and run.state().status == "queued"


def test_files_go_through_a_url(new_run: Create, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/bucket"
    run, log = new_run(keep_model=False), Log()
    claim(run, "head")
    there = RemoteFolder(f"{url}/{run.id}")
    send(run.path, there, {})
    do(*given(f"head:6379?files={url}", run), log)
    fetch(there, run.path, stamps_of(run.path))
    assert run.state().status == "done" and run.results()["pruned"]["perplexity"] > 0
    assert ["folder" in told for told in log.told] == [False]


def test_requests_reach_a_job_through_a_url(new_run: Create, tmp_path: Path) -> None:
    run = new_run()
    there = RemoteFolder(f"file://{tmp_path}/bucket")
    send(run.path, there, {})
    copy = Copy(Run(tmp_path / "copy"), there)
    copy.carry()
    assert not (tmp_path / "copy" / CANCEL_REQUEST).exists()
    (run.path / CANCEL_REQUEST).touch()
    there.write(CANCEL_REQUEST, run.path / CANCEL_REQUEST)
    copy.carry()
    assert (tmp_path / "copy" / CANCEL_REQUEST).exists()


def test_a_run_that_was_asked_to_end_ends(new_run: Create) -> None:
    run, other = new_run(), new_run(keep_model=False)
    (run.path / CANCEL_REQUEST).touch()
    copies = in_copies("head:6379?files=ray", run, other)
    assert [each.written_state().status for each in copies] == ["cancelled", "done"]
    shutil.rmtree(copies[0].path.parent)


def test_a_fault_of_ours_names_the_log_on_the_users_side(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    from come.runs import pipeline

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    run = new_run()
    monkeypatch.setattr(pipeline, "compress", fail)
    [copy] = in_copies("head:6379?files=ray", run)
    state = copy.written_state()
    assert state.status == "failed" and str(run.path / "log.txt") in state.hint
    shutil.rmtree(copy.path.parent)


def test_what_stops_a_job_is_said_in_its_log(
    new_run: Create, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on, owner, [path] = given("head:6379?files=nowhere://bucket", new_run())
    monkeypatch.setattr("sys.argv", ["job", on, json.dumps(owner), str(path)])
    job.main()
    told = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix(MARK))
    assert "nowhere" in told["error"] and told["hint"]


def test_cells_of_a_method_and_seed_share_a_worker(asked: dict[str, Any]) -> None:
    base = RunConfig(**{**asked, "target_layers": None})
    made = prepare(Sweep(base, ["come", "random"], targets=[3, 4], seeds=[0, 1]).cells())
    found = [
        [(run.config.seed, run.config.method, run.config.target_layers) for run in chain] for chain in chains(made)
    ]
    assert found == [[(seed, method, 4), (seed, method, 3)] for seed in (0, 1) for method in ("come", "random")]


def test_word_of_a_task_arrives_and_it_can_be_stopped() -> None:
    mailbox = Mailbox()
    with Reporter(3, mailbox.post) as reporter:
        reporter.add({"step": 1})
        assert not reporter.stopped()
        mailbox.stop()
    assert mailbox.take() == [(3, None), (3, {"step": 1})] and mailbox.take() == []
    assert reporter.stopped()

    def gone(_: object) -> bool:
        raise ConnectionError

    with Reporter(3, gone) as reporter:  # nobody listens: the work goes on
        reporter.add({"step": 1})
    assert not reporter.stopped()


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
