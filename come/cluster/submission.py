"""Runs as a job of a Ray cluster, seen from here: handing it in, following it, handing it in again when it is lost."""

from __future__ import annotations

import re
import shlex
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from come.cluster.connect import RUNTIME_ENV
from come.cluster.job import MARK, JobSpec, Told
from come.cluster.sync import REQUESTS, NodeFiles, NodeLost, RemoteFolder, Stamps, fetch, send
from come.errors import ComeError
from come.runs.cluster_target import ClusterTarget
from come.runs.state import State, is_own
from come.runs.store import CANCEL_REQUEST, Run

BEAT = 1.0  # seconds between two looks at a job
GRACE = 6.0  # seconds that a job has to end a cancelled run by itself, where it has others
STOP_WAIT = 15  # seconds that a stopped job has to end by itself
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
        self.gpus = _gpus(client, target, runs)
        self._ray = ray
        self._job: str | None = None
        self._told: Told | None = None  # what the job says when it is there
        self._given: list[Run] = []  # what the job has, of the runs
        self._folders: dict[
            str, tuple[RemoteFolder, Stamps]
        ] = {}  # by run, where its files are, if not in its directory
        self._node: NodeFiles | None = None  # whose disk these are on, if that is where
        self._asked: dict[tuple[str, str], float] = {}
        self._stopping = False
        self._losses: dict[str, int] = {}
        self._looked = 0.0
        self._answered = time.monotonic()

    def advance(self) -> None:
        """Bring things forward by one step.

        Raises:
            RuntimeError, OSError: the cluster is lost.
        """
        try:
            if self._job is None:
                self._submit()
            elif time.monotonic() - self._looked >= BEAT:
                self._look()
                self._looked = time.monotonic()
        except ComeError as error:
            self.stop()
            self._end(error)

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
            for run in left:
                self._folders[run.id] = _sent(run, RemoteFolder(f"{self.target.url}/{run.id}"))
        owner = left[0].written_state().model_dump(include=OWNER)
        spec = JobSpec(on=self.target.text, runs=[run.path for run in left], owner=owner)
        self._asked.clear()
        self._told, self._given, self._stopping = None, left, False
        self._job = self.client.submit_job(
            entrypoint=f"exec python -m come.cluster.job {shlex.quote(spec.model_dump_json())}",
            submission_id=f"{left[0].id}-{uuid.uuid4().hex[:6]}",
            runtime_env=RUNTIME_ENV | {"env_vars": {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT)}},
            metadata={run.id: str(run.path) for run in left},
            entrypoint_num_cpus=self.target.cpus,
            entrypoint_num_gpus=self.gpus,
        )

    def _look(self) -> None:
        try:
            info = self.client.get_job_info(self._job)
        except (RuntimeError, OSError):  # once is nothing: it may be busy
            if time.monotonic() - self._answered > SILENCE:
                raise
            return
        self._answered = time.monotonic()
        if info.status == "PENDING":
            self._wait_for_room()
            return
        if self._told is None or info.status.is_terminal():
            self._told = self._listen()
        with suppress(NodeLost):  # on the way to be lost; the job's state will tell
            if self._told and self._told.folder and not self._folders and info.status == "RUNNING":
                self._hand_over(self._told, info.driver_node_id)
            self._pass_on_requests()
            self._fetch()
        if info.status.is_terminal():
            self._settle(info)
            return
        for run in self._active():
            if run.written_state().status == "queued":
                run.update(heartbeat=time.time())
        self._end_stubborn()

    def _wait_for_room(self) -> None:
        self._cancel_asked()
        if not self._active():
            self.stop()  # Ray does so once there is room for it
            self.over = True
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        message = f"Waiting for room on the cluster ({self.target.cpus} CPU{gpus})"
        for run in self._active():
            run.update(heartbeat=time.time(), message=message, stage="queue")

    def _listen(self) -> Told | None:
        """What the job has said, if it has."""
        with suppress(RuntimeError, OSError):  # there is no log yet
            lines = self.client.get_job_logs(self._job).splitlines()
            said = [Told.model_validate_json(line.removeprefix(MARK)) for line in lines if line.startswith(MARK)]
            for told in said:
                if told.error:
                    raise ComeError(told.error, told.hint)
            return said[-1] if said else self._told
        return self._told

    def _hand_over(self, told: Told, node: str) -> None:
        """Put the runs' files where a job waits for them: it does not see their directories."""
        self._node = NodeFiles(self._ray(), node)
        theirs = {run.id: RemoteFolder(f"{told.folder}/{run.id}", self._node) for run in self._given}
        self._folders = {run.id: _sent(run, theirs[run.id]) for run in self._given}

    def _fetch(self) -> None:
        for run in self._given:
            if run.id in self._folders and is_own(run.written_state()):
                there, known = self._folders[run.id]
                fetch(there, run.path, known)

    def _pass_on_requests(self) -> None:
        if self._told is None:
            return
        for run in self.runs:
            for request in REQUESTS:
                if (run.id, request) not in self._asked and (run.path / request).exists():
                    self._asked[run.id, request] = time.monotonic()
                    if run.id in self._folders:
                        self._folders[run.id][0].write(request, run.path / request)

    def _end_stubborn(self) -> None:
        """Stop the job of a run that was asked to end: at once where it has no other, else after a while."""
        active = self._active()
        for run in active:
            since = self._asked.get((run.id, CANCEL_REQUEST))
            wait = GRACE if len(active) > 1 else 0.0
            if since is not None and not self._stopping and time.monotonic() - since >= wait:
                self.stop()

    def _settle(self, info: Any) -> None:
        """The job has ended: see what is left to be done."""
        host = self._told.host if self._told is not None else ""
        if self._node is not None and self._told is not None:
            with suppress(NodeLost):
                self._node.rm(str(self._told.folder), recursive=True)
        self._job = self._node = None
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
            self._failed(info, left, host)

    def _failed(self, info: Any, left: Sequence[Run], host: str) -> None:
        """The job could not do its part, or was killed; then another one goes on where the files of the runs end."""
        message, code = info.message or "", info.driver_exit_code
        with suppress(OSError), (left[0].path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"{message}\n")
        missing = re.search(r"No module named '([\w.]+)'", message)
        address = self.target.address
        if missing is not None:
            self._end(
                ComeError(
                    f"The workers of the cluster at {address} do not have the Python package {missing[1]}.",
                    "Install come's requirements on every machine, for the python that is found there.",
                )
            )
        elif info.error_type == "RUNTIME_ENV_SETUP_FAILURE" or (code is not None and 0 < code < 128):
            reason = (message.strip().splitlines() or ["no reason given"])[-1][:200]
            self._end(
                ComeError(
                    f"The workers of the cluster at {address} cannot be started ({reason}).",
                    "Install come's requirements on every machine, for the python that is found there.",
                )
            )
        else:
            self._lost(left, host)

    def _lost(self, left: Sequence[Run], host: str) -> None:
        run = next((each for each in left if each.written_state().status == "running"), left[0])
        self._losses[run.id] = times = self._losses.get(run.id, 0) + 1
        with suppress(OSError), (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"Lost the worker on {host or 'the cluster'}, time {times}\n")
        if times > self.target.retries:
            often = "once" if times == 1 else f"{times} times"
            where = f", the last time on {host}" if host else ""
            fail(
                run,
                ComeError(
                    f"The worker of this run was killed {often}{where}.",
                    "Most likely the memory did not suffice; resumed, the run goes on where its files end.",
                ),
            )

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
        pending = job.status == "PENDING"
        client.stop_job(job.submission_id)
        until = time.monotonic() + STOP_WAIT + BEAT
        while not pending and time.monotonic() < until:  # one that waits begins nothing any more
            if client.get_job_info(job.submission_id).status.is_terminal():
                break
            time.sleep(BEAT / 4)


def still_own(runs: Sequence[Run]) -> list[Run]:
    """The runs that this process sees to and that have not ended; one that was resumed since then is another's."""
    states: list[tuple[Run, State]] = [(run, run.written_state()) for run in runs]
    return [run for run, state in states if state.active and is_own(state)]


def fail(run: Run, sentence: ComeError) -> None:
    """End a run in its state by what the user can put right."""
    run.update(status="failed", error=sentence.what, hint=sentence.hint, finished=time.time())


def _gpus(client: Any, target: ClusterTarget, runs: Sequence[Run]) -> float:
    if target.gpus is not None:
        return target.gpus
    if all(run.config.device in ("cpu", "mps") for run in runs):
        return 0
    return 1 if any(node.resources_total.get("GPU", 0) >= 1 for node in _nodes(client) if node.state == "ALIVE") else 0


def _nodes(client: Any) -> list[Any]:
    from ray.util.state import list_nodes

    return list(list_nodes(address=client.get_address()))


def _sent(run: Run, there: RemoteFolder) -> tuple[RemoteFolder, Stamps]:
    """A folder that now has a run's files, and its stamps."""
    send(run.path, there, {})
    return there, there.stamps()


def _asked(run: Run) -> bool:
    return (run.path / CANCEL_REQUEST).exists()
