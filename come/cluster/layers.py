"""Layers that are trained by themselves, as Ray tasks: the same jobs as in processes, and the same bits.

Ray does the task of a worker that was killed again, on another one; a job follows from what it is given alone.
"""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import torch
from accelerate.utils import send_to_device
from torch import Tensor

from come.cluster.board import Board, Teller
from come.errors import ComeError
from come.recovery.workers import OnLayerStep, done_elsewhere
from come.training.checkpoint import IDENTITY, read_state, write_state
from come.training.layer_job import LayerJob, TrainedLayer, train_layer
from come.training.states import States
from come.training.trainer import TrainingStep

POLL = 0.3  # seconds between two looks at the tasks
PATIENCE = 20.0  # seconds without a task that has begun, after which a layer is trained in the run itself


@contextmanager
def layers_on_ray(gpus: float | None = None, retries: int = 3) -> Iterator[None]:
    """Within, layers that are trained side by side are Ray tasks; Ray must be connected to by then.

    Args:
        gpus: GPUs a layer, or a share of one; None: one where the model is on one.
        retries: how often the task of a lost worker is done again.
    """

    def do(
        jobs: Iterator[LayerJob], workers: int, on_point: OnLayerStep, stop: Callable[[], bool] | None
    ) -> Iterator[TrainedLayer]:
        yield from _Layers(gpus, retries, on_point, stop).do(jobs, workers)

    with done_elsewhere(do):
        yield


class _Layers:
    """Jobs of one recovery, given to Ray as there are workers for them."""

    def __init__(
        self, gpus: float | None, retries: int, on_point: OnLayerStep, stop: Callable[[], bool] | None
    ) -> None:
        import ray

        self.ray: Any = ray
        self.gpus, self.retries = gpus, retries
        self.on_point, self.stop = on_point, stop
        self.board = self.ray.remote(Board).options(num_cpus=0).remote()
        self.running: dict[Any, LayerJob] = {}
        self.begun: set[int] = set()
        self.told_to_stop = False

    def do(self, jobs: Iterator[LayerJob], workers: int) -> Iterator[TrainedLayer]:
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
                self.ray.kill(self.board)

    def _submit(self, job: LayerJob) -> Any:
        states = [self.ray.put(_bytes_of(states.tensor)) for states in (job.entering, job.leaving)]
        gpus = self.gpus if self.gpus is not None else float(job.device.type == "cuda")
        task = self.ray.remote(_train_there).options(
            num_cpus=job.threads, num_gpus=gpus, max_retries=self.retries, name=f"layer {job.layer}"
        )
        return task.remote(_to_send(job), *states, self.board)

    def _result(self, task: Any) -> TrainedLayer:
        job, errors = self.running.pop(task), self.ray.exceptions
        try:
            trained: TrainedLayer = self.ray.get(task)
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

    def _instead(self) -> TrainedLayer:
        """Train a layer here, for which there is no room elsewhere: what this run holds it holds in any case."""
        task = list(self.running)[-1]
        job = self.running.pop(task)
        self.ray.cancel(task, force=True)
        return self._here(job)

    def _here(self, job: LayerJob) -> TrainedLayer:
        trained = train_layer(job, lambda point: self.on_point(job.layer, point), self.stop)
        _drop(job)
        return trained

    def _pass_on(self) -> None:
        """Word in both directions; a board that was lost is no reason to stop."""
        with suppress(self.ray.exceptions.RayError):
            if not self.told_to_stop and self.stop is not None and self.stop():
                self.told_to_stop = True
                self.board.stop.remote()
            for layer, point in self.ray.get(self.board.hear.remote(), timeout=30):
                self.begun.add(layer)
                if point is not None:
                    self.on_point(layer, TrainingStep(**point))


def _train_there(
    job: LayerJob, entering: np.ndarray[Any, Any], leaving: np.ndarray[Any, Any], board: Any
) -> TrainedLayer:
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
    with Teller(job.layer, lambda news: bool(ray.get(board.say.remote(news)))) as teller:
        return train_layer(job, lambda point: teller.add(dataclasses.asdict(point)), teller.stopped)


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


def _keep(job: LayerJob, trained: TrainedLayer) -> None:
    """Keep what a worker that does not see the checkpoints came to (low-rank ones are trained again instead)."""
    if job.checkpoint is not None and not job.checkpoint.exists() and job.options.rank is None:
        best = {f"best.{name}": value for name, value in trained.tensors.items()}
        write_state(job.checkpoint, best, dataclasses.asdict(trained.outcome))


def _drop(job: LayerJob) -> None:
    job.entering.drop()
    job.leaving.drop()
