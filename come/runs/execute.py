"""Executing a run in this process: its turn, its work, and how it ended."""

from __future__ import annotations

import shutil
import time
import traceback
from contextlib import ExitStack, nullcontext, suppress
from typing import TYPE_CHECKING

from come.errors import ComeError
from come.events import Event, OnProgress
from come.files import disk_sentence, locked
from come.request import RunConfig
from come.runs.interrupts import termination_interrupts
from come.runs.process import claim, working
from come.runs.progress import ProgressWriter
from come.runs.queue import turn
from come.runs.run import Run
from come.runs.time_limit import TimeLimit

if TYPE_CHECKING:
    from come.runs.shared import Shared


FAULT = "The run failed by a fault of ours"


class RunFault(Exception):
    """A run failed by a fault that is not the user's; the traceback is in the run's log."""


def execute(run: Run, on_progress: OnProgress = None, shared: Shared | None = None, delegated: bool = False) -> None:
    """Do what the run asks for, here and now, when it is its turn. How it ends is in its state.

    Args:
        run: a new run, or one that was interrupted, which goes on where its files end.
        on_progress: told of every event, after the run's own files.
        shared: what other runs of this process have loaded and measured already.
        delegated: another process, on another machine perhaps, has claimed the run and sees to it: this one neither
            claims it nor waits for its turn here.

    Raises:
        ComeError: the run failed by something the user can put right.
        RunFault: it failed by something else.
        KeyboardInterrupt: it was cancelled, by a signal or through ``cancel``.
    """
    with working(run):
        if not delegated:
            claim(run, held_here=True)
        _sweep(run)
        config = run.config
        try:
            with termination_interrupts():
                _have_turn(run, config, on_progress, shared, delegated)
        except KeyboardInterrupt:
            if run.written_state().active:  # it came between two lines below
                _end(run, status="cancelled")
            raise


def _have_turn(run: Run, config: RunConfig, on_progress: OnProgress, shared: Shared | None, delegated: bool) -> None:
    """Wait for the turn, do the work, and write down how it ended before the next one's turn begins."""
    progress, limit = ProgressWriter(run, on_progress), TimeLimit(run)
    with ExitStack() as held:
        try:
            with progress:
                held.enter_context(nullcontext() if delegated else turn(run, progress.waiting))
                _begin(run, progress)
                # Only now: a run that waits must not hold the memory that torch takes.
                from come.runs.pipeline import work

                with limit:
                    work(run, config, progress, shared)
        except KeyboardInterrupt:
            why = limit.reason
            _end(run, "cancelled", why.what if why else "", why.hint if why else "")
            raise
        except Exception as error:
            raise _failed(run, config, error) from error
        _end(run, status="done")


def _begin(run: Run, progress: ProgressWriter) -> None:
    progress.stop_if_asked()
    resumed = run.written_state().started is not None
    run.update(status="running", started=time.time())
    if resumed:
        progress(Event("resumed", 0, 1, "Going on where the files of the run end"))


def _end(run: Run, status: str, error: str = "", hint: str = "") -> None:
    # On a full disk the last word cannot be written; the run then shows as interrupted, which is true.
    with suppress(ComeError, OSError):
        run.update(status=status, error=error, hint=hint, finished=time.time())


def _failed(run: Run, config: RunConfig, error: Exception) -> ComeError | RunFault:
    """Writes down how the run failed, and returns what to tell of it."""
    sentence = _user_sentence(run, config, error)
    if sentence is not None:
        _end(run, status="failed", error=sentence.what, hint=sentence.hint)
        return sentence
    with suppress(OSError), (run.path / "log.txt").open("a", encoding="utf-8") as log:
        log.write("".join(traceback.format_exception(error)))
    what = f"{FAULT} ({type(error).__name__})."
    hint = f"The details are in {run.path / 'log.txt'}."
    _end(run, status="failed", error=what, hint=hint)
    return RunFault(f"{what} {hint}")


def _user_sentence(run: Run, config: RunConfig, error: Exception) -> ComeError | None:
    if isinstance(error, ComeError):
        return error
    words = str(error).lower()
    if isinstance(error, MemoryError) or "out of memory" in words or "can't allocate memory" in words:
        return _out_of_memory(run, config)
    return disk_sentence(error, run.path)


def _out_of_memory(run: Run, config: RunConfig) -> ComeError:
    """Where it happened, by the last that was told of the work, what is kept, and what to lower."""
    state, plan = run.written_state(), None
    with suppress(ComeError):
        plan = run.plan()
    kept = f" The {len(plan.steps)} steps before it are kept, and the run goes on from there." if plan else ""
    batch = config.batch_size or "automatic"
    return ComeError(
        f"The memory did not suffice in the stage {state.stage or 'load'!r} ({state.message or 'at its start'}).{kept}",
        f"Lower the batch size (now {batch}), the sequence length (now {config.seq_len}) or the tokens, "
        "or take the model in bfloat16.",
    )


def _sweep(run: Run) -> None:
    """Remove what a killed process left half-written."""
    with locked(run.path / ".lock"):
        for path in run.path.glob(".*-*"):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
