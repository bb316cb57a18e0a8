"""One worker on a cluster with its runs, as seen from here: hiring it, following it, replacing it when it is lost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from come import __version__
from come.cluster.mirror import CHUNK, REQUESTS, Stamps, UrlFolder, fetch, send, stamps_of
from come.cluster.worker import Greeting, Worker
from come.errors import ComeError
from come.runs.cluster_target import ClusterTarget
from come.runs.state import is_own
from come.runs.store import CANCEL_REQUEST, Run

BEAT = 2.0  # seconds between two looks at a worker's files
GRACE = 6.0  # seconds that a worker has to end a cancelled run by itself
PATIENCE = 60.0  # seconds that a worker has to answer


class Crew:
    """A worker and the runs that it executes in turn. ``look`` brings things forward and does not wait."""

    def __init__(self, ray: Any, place: ClusterTarget, runs: Sequence[Run]) -> None:
        """Take Ray, connected, the place's settings and the runs, which this process has claimed."""
        self.ray, self.place, self.runs = ray, place, list(runs)
        self.over = False
        self.gpus = _gpus(ray, place, runs)
        self._worker: Any = None
        self._greeting: Any = None  # what the worker says when it is there
        self._work: Any = None
        self._known: dict[str, Stamps] | None = None  # None: the worker writes to the directories themselves
        self._asked: dict[tuple[str, str], float] = {}
        self._losses: dict[str, int] = {}
        self._host = ""
        self._looked = 0.0

    def look(self) -> None:
        """Bring things forward by one step."""
        errors = self.ray.exceptions
        lost = (errors.RayActorError, errors.WorkerCrashedError, errors.NodeDiedError, errors.OutOfMemoryError)
        try:
            if self._worker is None:
                self._hire()
            elif self._work is None:
                self._wait_for_room()
            else:
                self._follow()
        except errors.GetTimeoutError:
            pass  # busy, or on the way to be lost; Ray will tell
        except errors.RayTaskError as error:
            self._refused(error)
        except lost as error:
            # A worker that cannot even be made dies as well, and always will.
            self._refused(error) if "creation task" in str(error) else self._lost(error)
        except ComeError as error:
            self._end(error)

    def has_news(self) -> bool:
        """Whether a run was asked to end, and its worker does not know yet."""
        return any((run.id, CANCEL_REQUEST) not in self._asked for run in self._active() if _asked(run))

    def dismiss(self) -> None:
        """Let the worker go, whatever it does."""
        if self._worker is not None:
            with suppress(Exception):  # it, or the whole cluster, may be gone
                self.ray.kill(self._worker)
        self._worker = self._greeting = self._work = self._known = None

    def _hire(self) -> None:
        self._cancel_asked()
        left = self._active()
        if not left:
            self.over = True
            return
        resources = {"num_cpus": self.place.cpus, "num_gpus": self.gpus}
        self._worker = self.ray.remote(Worker).options(max_concurrency=4, **resources).remote(self.place)
        self._greeting = self._worker.meet.remote({run.path: run.written_state() for run in left})
        self._asked.clear()

    def _wait_for_room(self) -> None:
        """Wait for the worker to be there, and then give it the work."""
        self._cancel_asked()
        left = self._active()
        if not left:
            self.dismiss()
            return
        if not self._ready(self._greeting):
            self._beat(left, f"Waiting for room on the cluster ({self._needs()})")
            return
        greeting = self.ray.get(self._greeting)
        _check(greeting)
        self._host = greeting.host
        self._hand_over(greeting, left)
        self._work = self._worker.work.remote()

    def _hand_over(self, greeting: Greeting, left: list[Run]) -> None:
        if greeting.sees:
            self._known = None
        elif self.place.url is not None:
            for run in left:
                send(run.path, self._url_of(run), {})
            self._get(self._worker.download.remote([run.id for run in left]), None)
            self._known = {run.id: self._url_of(run).stamps() for run in left}
        else:
            packed = {run.id: _packed(run) for run in left}
            self._known = self._get(self._worker.unpack.remote(packed), None)

    def _follow(self) -> None:
        done = self._ready(self._work)
        if not done and time.monotonic() - self._looked < BEAT:
            return
        self._looked = time.monotonic()
        if done:
            self.ray.get(self._work)
        self._pass_on_requests()
        self._fetch()
        if done:
            with suppress(Exception):
                self._get(self._worker.close.remote())
            self.dismiss()
            for run in self._active():
                fail(run, ComeError("The worker ended without a word of this run.", "Resume it."))
            return
        self._beat([run for run in self._active() if run.written_state().status == "queued"])
        self._end_stubborn()

    def _fetch(self) -> None:
        if self._known is None:
            return
        stamps = self._get(self._worker.stamps.remote()) if self.place.url is None else None
        for run in self.runs:
            if run.id in self._known:
                there = self._url_of(run) if stamps is None else Borrowed(self, run.id, stamps[run.id])
                fetch(there, run.path, self._known[run.id])

    def _pass_on_requests(self) -> None:
        for run in self.runs:
            for request in REQUESTS:
                if (run.id, request) not in self._asked and (run.path / request).exists():
                    self._asked[run.id, request] = time.monotonic()
                    if self._known is not None and run.id in self._known:
                        self._worker.ask.remote(run.id, request)

    def _end_stubborn(self) -> None:
        """End the worker of a run that was asked to end and does not; the others get a new one."""
        for run in self._active():
            since = self._asked.get((run.id, CANCEL_REQUEST))
            running = run.written_state().status == "running"
            if since is not None and running and time.monotonic() - since > GRACE:
                self.dismiss()
                self._cancel_asked()
                return

    def _lost(self, error: Exception) -> None:
        """The worker was killed, or its machine: another one goes on where the files of the runs end."""
        self.dismiss()
        self._cancel_asked()
        left = self._active()
        if not left:
            return
        run = next((each for each in left if each.written_state().status == "running"), left[0])
        self._losses[run.id] = times = self._losses.get(run.id, 0) + 1
        with suppress(OSError), (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"Lost the worker on {self._host or 'the cluster'}, time {times}: {error}\n")
        if times > self.place.retries:
            where = f", the last time on {self._host}" if self._host else ""
            often = "once" if times == 1 else f"{times} times"
            fail(
                run,
                ComeError(
                    f"The worker of this run was killed {often}{where}.",
                    "Most likely the memory did not suffice; resumed, the run goes on where its files end.",
                ),
            )

    def _refused(self, error: Any) -> None:
        """The worker could not do its part: what it says, or why."""
        cause, missing = getattr(error, "cause", None), re.search(r"No module named '([\w.]+)'", str(error))
        if isinstance(cause, ComeError):
            self._end(cause)
        elif missing is not None:
            self._end(
                ComeError(
                    f"The workers of the cluster at {self.place.address} do not have the Python package {missing[1]}.",
                    f"Install come {__version__} with its requirements on every machine.",
                )
            )
        elif isinstance(error, self.ray.exceptions.RayActorError):
            reason = str(error).strip().splitlines()[-1][:200]
            self._end(
                ComeError(
                    f"The workers of the cluster at {self.place.address} cannot be started ({reason}).",
                    f"Install come {__version__} with its requirements on every machine.",
                )
            )
        else:
            raise error

    def _end(self, sentence: ComeError) -> None:
        self.dismiss()
        for run in self._active():
            fail(run, sentence)
        self.over = True

    def _cancel_asked(self) -> None:
        """Note that runs which were asked to end, and which no worker has, have ended."""
        for run in self._active():
            if _asked(run):
                run.update(status="cancelled", finished=time.time())

    def _active(self) -> list[Run]:
        return still_own(self.runs)

    def _beat(self, runs: Sequence[Run], message: str = "") -> None:
        """Show that somebody sees to the runs that wait."""
        if message and time.monotonic() - self._looked < BEAT:
            return
        self._looked = time.monotonic()
        for run in runs:
            run.update(heartbeat=time.time(), **({"message": message, "stage": "queue"} if message else {}))

    def _needs(self) -> str:
        gpus = f", {self.gpus:g} GPU" if self.gpus else ""
        return f"{self.place.cpus} CPU{gpus}"

    def _url_of(self, run: Run) -> UrlFolder:
        return UrlFolder(f"{self.place.url}/{run.id}")

    def _ready(self, result: Any) -> bool:
        return bool(self.ray.wait([result], timeout=0)[0])

    def _get(self, result: Any, timeout: float | None = PATIENCE) -> Any:
        return self.ray.get(result, timeout=timeout)


@dataclass(frozen=True)
class Borrowed:
    """The files of a run in a worker's own folder."""

    crew: Crew
    run_id: str
    known: Stamps

    def stamps(self) -> Stamps:
        """The files that there were at the last look."""
        return self.known

    def read(self, name: str) -> Iterator[bytes]:
        """The content of one, in pieces."""
        start = 0
        while True:
            piece = self.crew._get(self.crew._worker.read.remote(self.run_id, name, start))
            if piece is None:
                raise FileNotFoundError(name)
            yield piece
            start += len(piece)
            if len(piece) < CHUNK:
                return


def _gpus(ray: Any, place: ClusterTarget, runs: Sequence[Run]) -> float:
    if place.gpus is not None:
        return place.gpus
    wanted = any(run.config.device not in ("cpu", "mps") for run in runs)
    return 1 if wanted and ray.cluster_resources().get("GPU", 0) >= 1 else 0


def _check(greeting: Greeting) -> None:
    if greeting.come != __version__:
        raise ComeError(
            f"The worker {greeting.host} has come {greeting.come}, this machine has {__version__}.",
            "Install the same version on all machines.",
        )


def _packed(run: Run) -> dict[str, bytes]:
    """The files of a run that a worker goes on from: all but the finished model."""
    names = [name for name in stamps_of(run.path) if not name.startswith("model/")]
    return {name: (run.path / name).read_bytes() for name in names}


def still_own(runs: Sequence[Run]) -> list[Run]:
    """The runs that this process sees to and that have not ended; one that was resumed since then is another's."""
    states = [(run, run.written_state()) for run in runs]
    return [run for run, state in states if state.active and is_own(state)]


def _asked(run: Run) -> bool:
    return (run.path / CANCEL_REQUEST).exists()


def fail(run: Run, sentence: ComeError) -> None:
    """End a run in its state by what the user can put right."""
    run.update(status="failed", error=sentence.what, hint=sentence.hint, finished=time.time())
