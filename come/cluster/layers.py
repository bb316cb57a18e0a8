"""Layers that are trained by themselves, as Ray tasks: the same jobs as in processes, and the same bits.

Ray does the task of a worker that was killed again, on another one; a job follows from what it is given alone.
"""

from __future__ import annotations

import copy
import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from come.errors import ComeError
from come.recovery.workers import OnPoint, done_elsewhere
from come.training.checkpoint import IDENTITY, read_state, write_state
from come.training.layer_job import LayerJob, Trained, train_layer
from come.training.states import States
from come.training.trainer import Point

BEAT = 1.0  # seconds between two messages of a task
POLL = 0.3  # seconds between two looks at the tasks
PATIENCE = 20.0  # seconds without a task that has begun, after which a layer is trained in the run itself

Messages = list[tuple[int, dict[str, Any] | None]]
"""(layer, the fields of a step), or (layer, None) for a layer that has begun."""


@contextmanager
def layers_on_ray(gpus: float | None = None, retries: int = 3) -> Iterator[None]:
    """Within, layers that are trained side by side are Ray tasks of the cluster connected to, else this machine's.

    Args:
        gpus: GPUs a layer, or a share of one; None: one where the model is on one.
        retries: how often the task of a lost worker is done again.
    """

    def do(
        jobs: Iterator[LayerJob], workers: int, on_point: OnPoint, stop: Callable[[], bool] | None
    ) -> Iterator[Trained]:
        yield from _Layers(gpus, retries, on_point, stop).do(jobs, workers)

    with done_elsewhere(do):
        yield


class Mailbox:
    """What tasks report, until it is taken, and whether they are to stop: an actor (Ray's queue has no such flag)."""

    def __init__(self) -> None:
        """Make an empty one."""
        self._messages: Messages = []
        self._stopped = False

    def post(self, messages: Messages) -> bool:
        """Leave messages; returns whether the task is to stop and keep the best."""
        self._messages += messages
        return self._stopped

    def take(self) -> Messages:
        """Take what has come."""
        messages, self._messages = self._messages, []
        return messages

    def stop(self) -> None:
        """Let all tasks stop."""
        self._stopped = True


class Reporter:
    """A task's side of a mailbox: a thread that posts, so that the work does not wait. A context manager.

    The thread matters in another way too: a task that waits for Ray in its main thread gives up its CPUs meanwhile.
    """

    def __init__(self, layer: int, post: Callable[[Messages], bool]) -> None:
        """Take the layer and how to post (it may fail: nobody listens then)."""
        self.layer, self._post = layer, post
        self._messages: Messages = [(layer, None)]
        self._stopped = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="reporter", daemon=True)

    def __enter__(self) -> Reporter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def add(self, point: dict[str, Any]) -> None:
        """Have a step posted soon."""
        self._messages.append((self.layer, point))

    def stopped(self) -> bool:
        """Whether the task was told to stop, as far as is known."""
        return self._stopped

    def _beat(self) -> None:
        while True:
            over = self._over.is_set()
            count = len(self._messages)
            try:
                self._stopped = self._post(self._messages[:count]) or self._stopped
                del self._messages[:count]
            except Exception:  # the run that asked is gone, and this task soon will be
                return
            if over:
                return
            self._over.wait(BEAT)


class _Layers:
    """Jobs of one recovery, given to Ray as there are workers for them."""

    def __init__(self, gpus: float | None, retries: int, on_point: OnPoint, stop: Callable[[], bool] | None) -> None:
        import ray

        if not ray.is_initialized():
            ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        self.ray: Any = ray
        self.gpus, self.retries = gpus, retries
        self.on_point, self.stop = on_point, stop
        self.mailbox = self.ray.remote(Mailbox).options(num_cpus=0).remote()
        self.running: dict[Any, LayerJob] = {}
        self.begun: set[int] = set()
        self.told_to_stop = False

    def do(self, jobs: Iterator[LayerJob], workers: int) -> Iterator[Trained]:
        """What each job comes to, as they are done; so many at a time."""
        waiting, idle_since = True, time.monotonic()
        try:
            while waiting or self.running:
                while waiting and len(self.running) < workers:
                    job = next(jobs, None)
                    if job is None:
                        waiting = False
                    elif _finished(job):
                        yield self._here(job)
                    else:
                        self.running[self._submit(job)] = job
                done, _ = self.ray.wait(list(self.running), timeout=POLL) if self.running else ([], [])
                self._pass_on()
                for task in done:
                    yield self._result(task)
                if done or any(job.layer in self.begun for job in self.running.values()):
                    idle_since = time.monotonic()
                elif self.running and time.monotonic() - idle_since > PATIENCE:
                    yield self._instead()
                    idle_since = time.monotonic()
        finally:
            with suppress(Exception):  # they, or the whole cluster, may be gone
                for task in self.running:
                    self.ray.cancel(task, force=True)
                self.ray.kill(self.mailbox)

    def _submit(self, job: LayerJob) -> Any:
        states = [self.ray.put(_bytes_of(states.tensor)) for states in (job.entering, job.leaving)]
        gpus = self.gpus if self.gpus is not None else float(job.device.type == "cuda")
        task = self.ray.remote(_train_there).options(
            num_cpus=job.threads, num_gpus=gpus, max_retries=self.retries, name=f"layer {job.layer}"
        )
        return task.remote(_to_send(job), *states, self.mailbox)

    def _result(self, task: Any) -> Trained:
        job, errors = self.running.pop(task), self.ray.exceptions
        try:
            trained: Trained = self.ray.get(task)
        except errors.RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from error
        except errors.RayError as error:
            raise ComeError(
                f"The workers that trained layer {job.layer} were killed {self.retries + 1} times.",
                "Most likely the memory did not suffice: lower batch_tokens, or give each worker more of a machine.",
            ) from error
        self.begun.discard(job.layer)
        _keep(job, trained)
        _drop(job)
        return trained

    def _instead(self) -> Trained:
        """Train a layer here, for which there is no room elsewhere: what this run holds it holds in any case."""
        task = list(self.running)[-1]
        job = self.running.pop(task)
        self.ray.cancel(task, force=True)
        return self._here(job)

    def _here(self, job: LayerJob) -> Trained:
        trained = train_layer(job, lambda point: self.on_point(job.layer, point), self.stop)
        _drop(job)
        return trained

    def _pass_on(self) -> None:
        """Word in both directions; a mailbox that was lost is no reason to stop."""
        with suppress(self.ray.exceptions.RayError):
            if not self.told_to_stop and self.stop is not None and self.stop():
                self.told_to_stop = True
                self.mailbox.stop.remote()
            for layer, point in self.ray.get(self.mailbox.take.remote(), timeout=30):
                self.begun.add(layer)
                if point is not None:
                    self.on_point(layer, Point(**point))


def _train_there(job: LayerJob, entering: np.ndarray[Any, Any], leaving: np.ndarray[Any, Any], mailbox: Any) -> Trained:
    """Do a job on a worker: the task. What it gives back is on the CPU."""
    import ray

    device = torch.device("cuda" if job.device.type == "cuda" and torch.cuda.is_available() else "cpu")
    seen = job.checkpoint is not None and (job.checkpoint.parent / IDENTITY).exists()
    job = dataclasses.replace(
        job,
        module=job.module.to(device),
        calls=send_to_device(job.calls, device),
        entering=_states(entering, job.entering),
        leaving=_states(leaving, job.leaving),
        device=device,
        checkpoint=job.checkpoint if seen else None,
    )
    with Reporter(job.layer, lambda messages: bool(ray.get(mailbox.post.remote(messages)))) as reporter:
        return train_layer(job, lambda point: reporter.add(dataclasses.asdict(point)), reporter.stopped)


def _to_send(job: LayerJob) -> LayerJob:
    """A job that any machine can take in: on the CPU, and without its states, which go by themselves."""
    there_already = all(each.device.type == "cpu" for each in (*job.module.parameters(), *job.module.buffers()))
    return dataclasses.replace(
        job,
        module=job.module if there_already else copy.deepcopy(job.module).cpu(),
        calls=send_to_device(job.calls, "cpu"),
        entering=_empty(job.entering),
        leaving=_empty(job.leaving),
    )


def _bytes_of(tensor: Tensor) -> np.ndarray[Any, Any]:
    """A tensor of any dtype as bytes, which Ray hands on without copying."""
    return tensor.contiguous().view(torch.uint8).numpy()


def _empty(states: States) -> States:
    empty = States.__new__(States)
    empty.__setstate__({"shape": states.shape, "dtype": states.dtype, "path": None, "tensor": torch.empty(0)})
    return empty


def _states(content: np.ndarray[Any, Any], like: States) -> States:
    states = _empty(like)
    # A copy: what Ray hands out is read-only, and a layer that wrote to it would bring the process down.
    states.tensor = torch.from_numpy(content.copy()).view(like.dtype).view(like.shape)
    return states


def _finished(job: LayerJob) -> bool:
    """Whether the checkpoint of a job holds its end."""
    kept = read_state(job.checkpoint)
    return kept is not None and bool(kept[1]["finished"])


def _keep(job: LayerJob, trained: Trained) -> None:
    """Keep what a worker that does not see the checkpoints came to (low-rank ones are trained again instead)."""
    if job.checkpoint is not None and not job.checkpoint.exists() and job.options.rank is None:
        best = {f"best.{name}": value for name, value in trained.tensors.items()}
        write_state(job.checkpoint, best, dataclasses.asdict(trained.outcome))


def _drop(job: LayerJob) -> None:
    job.entering.drop()
    job.leaving.drop()
