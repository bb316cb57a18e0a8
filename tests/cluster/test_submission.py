"""What becomes of runs as their job waits, works and ends, without a cluster: only what its job server would tell."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

import pytest

from come.cluster import drive
from come.cluster.connect import MARK
from come.cluster.submission import Submission, stop_earlier
from come.errors import ComeError
from come.runs import Run, cluster_target
from come.runs.cluster_target import ClusterTarget
from come.runs.process import claim
from come.runs.run import CANCEL_REQUEST
from come.runs.state import identity
from tests.runs.conftest import Create


class JobStatus(StrEnum):
    """Ray's."""

    PENDING, RUNNING, STOPPED, SUCCEEDED, FAILED = "PENDING", "RUNNING", "STOPPED", "SUCCEEDED", "FAILED"

    def is_terminal(self) -> bool:
        return self in ("STOPPED", "SUCCEEDED", "FAILED")


@dataclass
class Job:
    """As much of a job as Ray tells of it."""

    status: str
    message: str = ""
    error_type: str = ""
    driver_exit_code: int | None = None
    driver_node_id: str = ""
    submission_id: str = "earlier"
    metadata: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.status = JobStatus(self.status)


class Jobs:
    """As much of a job server as tells how a job came to its end."""

    def __init__(self, *ends: Job, log: str = "") -> None:
        self.ends, self.log = list(ends), log
        self.submitted: list[dict[str, Any]] = []
        self.stopped: list[str] = []

    def get_address(self) -> str:
        return "http://head:8265"

    def submit_job(self, **given: Any) -> str:
        self.submitted.append(given)
        return str(given["submission_id"])

    def get_job_info(self, job: str) -> Job:
        return self.ends.pop(0) if len(self.ends) > 1 else self.ends[0]

    def get_job_logs(self, job: str) -> str:
        return self.log

    def list_jobs(self) -> list[Job]:
        return self.ends

    def stop_job(self, job: str) -> None:
        self.stopped.append(job)


def killed(code: int = -9, message: str = "Job entrypoint command failed") -> Job:
    return Job("FAILED", message, "JOB_ENTRYPOINT_COMMAND_ERROR", code)


def submitted(jobs: Jobs, *runs: Run, where: str = "head:6379?gpus=0") -> Submission:
    """Runs whose job has been handed in, and is looked at at every step."""
    target = cluster_target(where)
    assert target is not None
    for run in runs:
        claim(run, target.text)
    found = Submission(jobs, target, runs, lambda: None)
    found.advance()
    return found


def step(found: Submission, times: int = 1) -> None:
    for _ in range(times):
        found._looked = float("-inf")
        found.advance()


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (killed(1, "ModuleNotFoundError: No module named 'torch'"), "do not have the Python package torch"),
        (killed(127, "sh: 1: python: not found"), r"cannot be started \(sh: 1: python: not found\)"),
        (
            Job("FAILED", "runtime_env setup failed: no disk", "RUNTIME_ENV_SETUP_FAILURE"),
            "cannot be started .*no disk",
        ),
        (Job("SUCCEEDED"), "ended without a word"),
    ],
)
def test_a_job_that_cannot_do_its_part_ends_the_runs(end: Job, told: str, new_run: Create) -> None:
    run = new_run()
    found = submitted(Jobs(end), run)
    step(found)
    assert run.state().status == "failed" and re.search(told, run.state().error) and found.over


def test_what_a_job_says_ends_the_runs_in_its_words(new_run: Create) -> None:
    run = new_run()
    said = MARK + json.dumps({"error": "Files cannot be kept.", "hint": "Install it."})
    found = submitted(Jobs(Job("RUNNING"), log=f"a warning\n{said}\n"), run)
    step(found)
    assert (run.state().error, run.state().hint, found.over) == ("Files cannot be kept.", "Install it.", True)


@pytest.mark.parametrize(
    ("where", "device", "gpus"),
    [("a:1", "auto", 1), ("a:1", "cpu", 0), ("a:1?gpus=0.5", "auto", 0.5), ("a:1?gpus=0", "cuda", 0)],
)
def test_a_run_gets_a_gpu_where_there_is_one(
    where: str, device: str, gpus: float, new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray")
    node = SimpleNamespace(resources_total={"CPU": 2.0, "GPU": 4.0})
    monkeypatch.setattr("ray.util.state.list_nodes", lambda **_: [node])
    jobs = Jobs(Job("RUNNING"))
    submitted(jobs, new_run(device=device), where=where)
    assert jobs.submitted[0]["entrypoint_num_gpus"] == gpus


def test_a_cluster_that_does_not_tell_of_its_nodes_for_a_moment_is_asked_again(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = pytest.importorskip("ray.util.state.exception")
    answers: list[Any] = [state.RayStateApiException("a node has just died"), []]

    def list_nodes(**_: Any) -> list[Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    monkeypatch.setattr("ray.util.state.list_nodes", list_nodes)
    jobs, run = Jobs(Job("RUNNING")), new_run(device="auto")
    found = submitted(jobs, run, where="a:1")
    assert not jobs.submitted and run.written_state().active
    step(found)
    assert jobs.submitted[0]["entrypoint_num_gpus"] == 0 and run.written_state().active


def test_a_lost_worker_is_replaced_so_often_and_no_more(new_run: Create) -> None:
    first, second, jobs = new_run(), new_run(), Jobs(killed())
    found = submitted(jobs, first, second, where="head:6379?retries=1&gpus=0")
    second.update(status="running")
    for times in (1, 2):
        assert second.state().active and len(jobs.submitted) == times
        step(found)  # it was killed
        step(found)  # and is replaced
    assert [run.written_state().status for run in (first, second)] == ["queued", "failed"]
    assert "was killed 2 times" in second.state().error and not found.over
    assert str(second.path) not in jobs.submitted[-1]["entrypoint"]


def test_who_waits_longer_than_ray_lets_him_waits_again(new_run: Create) -> None:
    run = new_run()
    jobs = Jobs(Job("PENDING"), Job("FAILED", "", "JOB_SUPERVISOR_ACTOR_START_TIMEOUT"))
    found = submitted(jobs, run, where="head:6379?retries=0&gpus=0")
    step(found)
    assert "Waiting for room on the cluster (1 CPU)" in run.state().message
    step(found, 2)
    assert len(jobs.submitted) == 2 and run.state().status == "queued"


def test_a_job_that_somebody_else_stopped_is_not_done_again(new_run: Create) -> None:
    run, jobs = new_run(), Jobs(Job("STOPPED"))
    found = submitted(jobs, run)
    step(found, 2)
    assert run.written_state().status == "cancelled" and len(jobs.submitted) == 1 and found.over


def test_a_job_server_may_be_silent_for_a_while_and_no_longer(new_run: Create) -> None:
    run, jobs = new_run(), Jobs(Job("RUNNING"))
    found = submitted(jobs, run)

    def silent(job: str) -> Job:
        raise ConnectionError("refused")

    jobs.get_job_info = silent  # type: ignore[method-assign]
    step(found)
    found._answered = float("-inf")
    with pytest.raises(ConnectionError):
        step(found)
    assert run.state().status == "queued"


def test_a_run_that_was_resumed_is_left_to_the_process_that_claimed_it(new_run: Create) -> None:
    """Between the end of a cancelled run and the end of the process that saw to it, the run may be resumed."""
    run, jobs = new_run(), Jobs(Job("SUCCEEDED"))
    found = submitted(jobs, run)
    run.update(status="cancelled")
    run.update(status="queued", **identity(os.getppid()))
    step(found, 2)
    assert found.over and run.written_state().status == "queued" and len(jobs.submitted) == 1


def test_the_job_of_a_process_that_is_gone_is_stopped_first(new_run: Create) -> None:
    run, other = new_run(), new_run()
    theirs = [Job("RUNNING", submission_id=one.id, metadata={one.id: str(one.path)}) for one in (run, other)]
    elsewhere = Job("RUNNING", submission_id="elsewhere", metadata={run.id: "/somebody/elses"})
    jobs = Jobs(theirs[0], theirs[1], elsewhere, Job("SUCCEEDED", metadata={run.id: str(run.path)}))
    jobs.get_job_info = lambda job: Job("STOPPED")  # type: ignore[method-assign]
    run.update(status="cancelled")  # what the job writes as it is stopped
    (other.path / CANCEL_REQUEST).touch()
    other.update(status="cancelled")
    stop_earlier(jobs, [run])
    assert jobs.stopped == [run.id] and run.written_state().status == "queued"
    stop_earlier(jobs, [other])
    assert other.written_state().status == "cancelled"  # by its user


def test_a_lost_cluster_fails_the_runs_that_are_still_this_process_own(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, resumed, target = new_run(), new_run(), cluster_target("head:6379")
    assert target is not None
    for run in (ours, resumed):
        claim(run, target.text)

    def lost(_: ClusterTarget) -> Any:
        resumed.update(status="queued", **identity(os.getppid()))
        raise ConnectionError("the head is gone")

    monkeypatch.setattr(drive, "job_client", lost)
    with pytest.raises(ComeError, match=r"at head:6379 was lost \(ConnectionError: the head is gone\)"):
        drive._drive(target, [ours, resumed], None)
    assert [run.written_state().status for run in (ours, resumed)] == ["failed", "queued"]
    assert "was lost" in ours.written_state().error
