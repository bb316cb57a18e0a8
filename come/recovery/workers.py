"""Training layers by jobs: here, one after the other, in several processes, or elsewhere; to the same bits."""

from __future__ import annotations

import json
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from types import ModuleType

from come.errors import ComeError
from come.processes import die_with, temporary_folder
from come.training.layer_job import LayerJob, TrainedLayer, train_layer
from come.training.trainer import TrainingStep

STOP, ABANDON = "stop", "abandon"  # files that tell the processes to keep their best, or to leave everything as it is
POLL = 0.3  # seconds between two looks at what the processes report
OnLayerStep = Callable[[int, TrainingStep], None]
"""Told the layer and its newest point."""
JobRunner = Callable[[Iterator[LayerJob], int, OnLayerStep, Callable[[], bool] | None], Iterator[TrainedLayer]]
"""Runs jobs as ``do_jobs`` does, on other machines perhaps."""

_elsewhere: ContextVar[JobRunner | None] = ContextVar("elsewhere", default=None)


@contextmanager
def done_elsewhere(runner: JobRunner) -> Iterator[None]:
    """Within, jobs that are to be done side by side are run by ``runner`` instead of this machine's processes."""
    token = _elsewhere.set(runner)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def do_jobs(
    jobs: Iterator[LayerJob], workers: int, on_point: OnLayerStep, stop: Callable[[], bool] | None = None
) -> Iterator[TrainedLayer]:
    """What each job comes to, as they are done. Jobs are asked for when there is a process for them.

    Args:
        jobs: each can be done by itself; its states lie in files where there is more than one worker.
        workers: how many processes; with one, everything is done in this one.
        on_point: told of the steps of each layer.
        stop: asked now and then whether all should stop early and keep their best.

    Raises:
        ComeError: a process was killed.
    """
    if workers == 1:
        for job in jobs:
            yield train_layer(job, lambda point, layer=job.layer: on_point(layer, point), stop)  # type: ignore[misc]
            _drop(job)
        return
    elsewhere = _elsewhere.get()
    if elsewhere is not None:
        yield from elsewhere(jobs, workers, on_point, stop)
        return
    with temporary_folder("come-workers-") as folder:
        context = get_context("spawn")
        pool = ProcessPoolExecutor(workers, context, initializer=die_with, initargs=(os.getpid(),))
        try:
            yield from _in_processes(pool, jobs, workers, folder, on_point, stop)
        except BrokenProcessPool as error:
            raise ComeError(
                "A process that was training a layer was killed, most likely for lack of memory.",
                "Use fewer workers or smaller batches; with a checkpoint folder, finished layers are kept.",
            ) from error
        finally:
            (folder / ABANDON).touch()
            pool.shutdown(wait=True, cancel_futures=True)


def _in_processes(
    pool: ProcessPoolExecutor,
    jobs: Iterator[LayerJob],
    workers: int,
    folder: Path,
    on_point: OnLayerStep,
    stop: Callable[[], bool] | None,
) -> Iterator[TrainedLayer]:
    running: dict[Future[bytes], tuple[LayerJob, Path, int]] = {}
    waiting = True
    while waiting or running:
        while waiting and len(running) < workers:
            job = next(jobs, None)
            if job is None:
                waiting = False
                break
            points = folder / f"layer-{job.layer}.jsonl"
            points.touch()
            with _nobodys_script():
                # Pickles go between our own processes alone, both ways, as bytes; none is kept or read from a file.
                future = pool.submit(_do, pickle.dumps(job), points)
            running[future] = (job, points, 0)
        done, _ = wait(running, timeout=POLL, return_when=FIRST_COMPLETED)
        if stop is not None and stop():
            (folder / STOP).touch()
        for future, (job, points, seen) in list(running.items()):
            running[future] = (job, points, _pass_on(points, seen, job.layer, on_point))
            if future in done:
                del running[future]
                yield pickle.loads(future.result())
                _drop(job)


@contextmanager
def _nobodys_script() -> Iterator[None]:
    """Within, new processes do not run the caller's script again, as "spawn" would: jobs need nothing of it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _do(job: bytes, points: Path) -> bytes:
    """Do a job in a process of its own; steps are reported in a file, a line each."""
    parent, folder = os.getppid(), points.parent

    def stop() -> bool:
        if (folder / ABANDON).exists() or os.getppid() != parent:
            raise Abandoned
        return (folder / STOP).exists()

    with points.open("a", encoding="utf-8", buffering=1) as file:

        def report(point: TrainingStep) -> None:
            file.write(json.dumps(asdict(point)) + "\n")

        return pickle.dumps(train_layer(pickle.loads(job), report, stop))


class Abandoned(Exception):
    """Nobody waits for the result any more; what was kept of it stays as it is, to be gone on from."""


def _pass_on(points: Path, seen: int, layer: int, on_point: OnLayerStep) -> int:
    """Report the whole lines that are new; returns how many bytes were read by now."""
    with points.open("rb") as file:
        file.seek(seen)
        for line in file:
            if not line.endswith(b"\n"):
                break
            seen += len(line)
            on_point(layer, TrainingStep(**json.loads(line)))
    return seen


def _drop(job: LayerJob) -> None:
    job.entering.drop()
    job.leaving.drop()
