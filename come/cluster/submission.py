"""Runs as a job of a Ray cluster, seen from here: handing it in, following it, handing it in again when it is lost."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from come.cluster.connect import MARK, RUNTIME_ENV
from come.cluster.sync import REQUESTS, NodeFiles, NodeLost, RemoteFolder, Stamps, fetch, send
from come.errors import ComeError
from come.runs.cluster_target import ClusterTarget
from come.runs.run import CANCEL_REQUEST, Run
from come.runs.state import is_own

BEAT = 1.0  # seconds between two looks at a job
GRACE = 4.0  # seconds that a job has to end a cancelled run by itself, where it has others
STOPPING = 20.0  # seconds that an earlier job has to be over; Ray kills what does not end in three
SILENCE = 30.0  # seconds without an answer of the job server after which the cluster is lost
OWNER = {"host", "pid", "process_started"}


class Submission:
    """A job and the runs that it executes in turn. ``advance`` brings things forward and does not wait."""

    def __init__(self, client: Any, target: ClusterTarget, runs: Sequence[Run], ray: Callable[[], Any]) -> None:
        """Take the runs, which this process has claimed.

        Args:
            client: Ray's ``JobSubmissionClient``.
            target: the cluster's settings.
            runs: what the job is to execute.
            ray: connects to the cluster itself, for files that only its own tasks can bring back.
        """
        self.client, self.target, self.runs = client, target, list(runs)
        self.over = False
        self.gpus: float | None = None  # asked of the cluster with the first job
        self._ray = ray
        self._job: str | None = None
        self._next_id = _new_id(runs)  # the same until it is taken, so that no job is handed in twice
        self._given: list[Run] = []  # what the job has, of the runs
        self._told: dict[str, str] = {}  # what it said in its log
        self._node: NodeFiles | None = None  # whose disk it works on in copies, if it does
        self._folders: dict[str, tuple[RemoteFolder, Stamps]] = {}  # by run: where its files are to be had
        self._asked: dict[tuple[str, str], float] = {}
        self._stopping = False
        self._losses: dict[str, int] = {}
        self._looked, self._answered = float("-inf"), time.monotonic()

    def advance(self) -> None:
        """Bring things forward by one step.

        Raises:
            RuntimeError, OSError: the cluster is lost.
        """
        now = time.monotonic()
        if now - self._looked < BEAT:
            return
        self._looked = now
        try:
            if self._job is None:
                self._submit()
            else:
                self._look(self._job)
            self._answered = now
        except ComeError as error:
            self.stop()
            self._end(error)
        except (RuntimeError, OSError):  # once is nothing: it may be busy
            if now - self._answered > SILENCE:
                raise

    def has_news(self) -> bool:
        """Whether a run was asked to end, and its job does not know yet."""
        return any((run.id, CANCEL_REQUEST) not in self._asked for run in self._active() if _asked(run))

    def stop(self) -> None:
        """Have the job stopped, whatever it does."""
        if self._job is not None:
            self._stopping = True
            with suppress(Exception):  # the whole cluster may be gone
                self.client.stop_job(self._job)

    def _submit(self) -> None:
        self._cancel_asked()
        left = self._active()
        if not left:
            self.over = True
            return
        if self.target.url is not None:
            self._folders = {run.id: _sent(run, RemoteFolder(f"{self.target.url}/{run.id}")) for run in left}
        if self.gpus is None:
            self.gpus = _gpus(self.client, self.target, self.runs)
        owner = left[0].written_state().model_dump(include=OWNER)
        arguments = [self.target.text, json.dumps(owner), *(str(run.path) for run in left)]
        self._asked.clear()
        self._given, self._told, self._stopping = left, {}, False
        self._job = self.client.submit_job(
            # -P: the code that goes along, not a folder that the cluster was started in
            entrypoint=f"exec python -P -m come.cluster.job {shlex.join(arguments)}",
            submission_id=self._next_id,
            runtime_env=RUNTIME_ENV,
            metadata={run.id: str(run.path) for run in left},
            entrypoint_num_cpus=self.target.cpus,
            entrypoint_num_gpus=self.gpus,
        )
        self._next_id = _new_id(left)

    def _look(self, job: str) -> None:
        info = self.client.get_job_info(job)
        if info.status == "PENDING":
            self._wait_for_room()
            return
        over = info.status.is_terminal()
        if over or not self._told:
            self._listen(job)
        with suppress(NodeLost):  # what becomes of the job will tell
            if "folder" in self._told and not self._folders and not over:
                self._node = self._node or NodeFiles(self._ray(), info.driver_node_id)
                there = {run.id: RemoteFolder(f"{self._told['folder']}/{run.id}", self._node) for run in self._given}
                self._folders = {run.id: _sent(run, there[run.id]) for run in self._given}
            self._pass_on_requests()
            for run in self._given:
                if run.id in self._folders and is_own(run.written_state()):
                    fetch(self._folders[run.id][0], run.path, self._folders[run.id][1])
        if over:
            self._settle(info)
            return
        for run in self._active():
            if run.written_state().status == "queued":
                run.update(heartbeat=time.time())
        self._stop_stubborn()

    def _wait_for_room(self) -> None:
        self._cancel_asked()
        if not self._active():
            self.stop()  # Ray does so once there is room for it
            self.over = True
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        message = f"Waiting for room on the cluster ({self.target.cpus} CPU{gpus})"
        for run in self._active():
            run.update(heartbeat=time.time(), message=message, stage="queue")

    def _listen(self, job: str) -> None:
        """Hear what the job has said, if it has, and end the runs where it cannot do its part."""
        with suppress(RuntimeError, OSError):  # there is no log yet
            for line in self.client.get_job_logs(job).splitlines():
                if line.startswith(MARK):
                    self._told |= json.loads(line.removeprefix(MARK))
        if "error" in self._told:
            raise ComeError(self._told["error"], self._told["hint"])

    def _pass_on_requests(self) -> None:
        for run in self._given if self._told else ():
            for request in REQUESTS:
                if (run.id, request) not in self._asked and (run.path / request).exists():
                    if run.id in self._folders:
                        self._folders[run.id][0].write(request, run.path / request)
                    self._asked[run.id, request] = time.monotonic()

    def _stop_stubborn(self) -> None:
        """Stop the job of a run that was asked to end: at once where it has no other, else if it does not listen."""
        active, now = self._active(), time.monotonic()
        for run in active:
            late = now - self._asked.get((run.id, CANCEL_REQUEST), now) > GRACE
            if _asked(run) and not self._stopping and (late or len(active) == 1):
                self.stop()

    def _settle(self, info: Any) -> None:
        """The job has ended: see what is left to be done, and by whom."""
        if self._node is not None:
            with suppress(NodeLost):
                self._node.rm(self._told["folder"], recursive=True)
        self._job, self._node = None, None
        self._folders.clear()
        self._cancel_asked()
        left = self._active()
        if not left or self._stopping:
            return
        if info.status == "SUCCEEDED":
            self._end(ComeError("The worker ended without a word of this run.", "Resume it."))
        elif info.status == "STOPPED":  # by somebody else, who does not want it to go on
            for run in left:
                run.update(status="cancelled", finished=time.time())
        elif info.error_type != "JOB_SUPERVISOR_ACTOR_START_TIMEOUT":  # Ray lets nobody wait for long: wait again
            self._failed(info, left)

    def _failed(self, info: Any, left: Sequence[Run]) -> None:
        """The job could not do its part, or was killed; then another one goes on where the files of the runs end."""
        message, code = (info.message or "").strip(), info.driver_exit_code
        run = next((each for each in left if each.written_state().status == "running"), left[0])
        missing = re.search(r"No module named '([\w.]+)'", message)
        if missing or info.error_type == "RUNTIME_ENV_SETUP_FAILURE" or (code is not None and 0 < code < 128):
            what = f"do not have the Python package {missing[1]}" if missing else "cannot be started"
            reason = "" if missing else f" ({message.splitlines()[-1][:200]})" if message else ""
            hint = "Install come's requirements on every machine, for the python that is found there."
            self._end(ComeError(f"The workers of the cluster at {self.target.address} {what}{reason}.", hint))
            return
        self._losses[run.id] = times = self._losses.get(run.id, 0) + 1
        host = self._told.get("host", "the cluster")
        with suppress(OSError), (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"Lost the worker on {host}, time {times}: {message}\n")
        if times > self.target.retries:
            often = "once" if times == 1 else f"{times} times"
            hint = "Most likely the memory did not suffice; resumed, the run goes on where its files end."
            fail(run, ComeError(f"The worker of this run was killed {often}, the last time on {host}.", hint))

    def _end(self, sentence: ComeError) -> None:
        for run in self._active():
            fail(run, sentence)
        self.over = True

    def _cancel_asked(self) -> None:
        """Note that runs which were asked to end, and which no job has, have ended."""
        for run in self._active():
            if _asked(run):
                run.update(status="cancelled", finished=time.time())

    def _active(self) -> list[Run]:
        return still_own(self.runs)


def stop_earlier(client: Any, runs: Sequence[Run]) -> None:
    """End the jobs of a process that is gone, which would write to the same files. Waits for their ends."""
    ids = {(run.id, str(run.path)) for run in runs}
    for job in client.list_jobs():
        if job.submission_id is None or job.status.is_terminal() or not ids & set((job.metadata or {}).items()):
            continue
        client.stop_job(job.submission_id)
        until = time.monotonic() + STOPPING
        while job.status == "RUNNING" and time.monotonic() < until:  # one that waits begins nothing any more
            if client.get_job_info(job.submission_id).status.is_terminal():
                break
            time.sleep(BEAT / 4)
    for run in runs:
        if run.written_state().status == "cancelled" and not _asked(run):  # by its job, as that was stopped
            run.update(status="queued", finished=None)


def still_own(runs: Sequence[Run]) -> list[Run]:
    """The runs that this process sees to and that have not ended; one that was resumed since then is another's."""
    states = [(run, run.written_state()) for run in runs]
    return [run for run, state in states if state.active and is_own(state)]


def fail(run: Run, sentence: ComeError) -> None:
    """End a run in its state by what the user can put right."""
    run.update(status="failed", error=sentence.what, hint=sentence.hint, finished=time.time())


def _gpus(client: Any, target: ClusterTarget, runs: Sequence[Run]) -> float:
    """How many GPUs a job of these runs gets: what is asked for, else one where a node has some.

    Raises:
        RuntimeError: the cluster does not tell.
    """
    if target.gpus is not None:
        return target.gpus
    if all(run.config.device in ("cpu", "mps") for run in runs):
        return 0
    from ray.util.state import list_nodes
    from ray.util.state.exception import RayStateApiException

    alive = [("state", "=", "ALIVE")]
    try:  # one node that does not answer is no reason to hear nothing of the others
        nodes = list_nodes(address=client.get_address(), filters=alive, raise_on_missing_output=False)
    except RayStateApiException as error:
        raise RuntimeError(str(error)) from error
    return 1 if any(node.resources_total.get("GPU", 0) >= 1 for node in nodes) else 0


def _new_id(runs: Sequence[Run]) -> str:
    return f"{runs[0].id}-{uuid.uuid4().hex[:6]}"


def _sent(run: Run, there: RemoteFolder) -> tuple[RemoteFolder, Stamps]:
    """A folder that now has a run's files, and its stamps."""
    send(run.path, there, {})
    return there, there.stamps()


def _asked(run: Run) -> bool:
    return (run.path / CANCEL_REQUEST).exists()
