"""What merging windows costs, kept beside the analysis of the model: a line a window, added as it is found out."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from come import files
from come.errors import ComeError
from come.events import OnProgress, emit
from come.request import RunConfig
from come.runs.run import Run

if TYPE_CHECKING:
    from torch import Tensor

    from come.models import Bundle
    from come.pruning.windows import Window, WindowCost

FILE = "window_costs.jsonl"
VERSION = 2  # raised when merges come out otherwise: what was measured before says nothing then


def read(run: Run) -> tuple[WindowCost, ...]:
    """What is known of the windows of an analysed model, in the order in which it was found out."""
    from come.pruning.windows import WindowCost

    kind = TypeAdapter(WindowCost)  # what is no number was read as nothing
    names = {each.name for each in fields(WindowCost)}
    found: dict[Window, WindowCost] = {}
    with suppress(ComeError):  # it is no file: nothing is known
        for line in files.read_lines(run.path / FILE):
            with suppress(ValidationError):  # a line that says something else
                if line.pop("version", None) == VERSION and line.keys() <= names:
                    cost = kind.validate_python(line)
                    if 0 <= cost.first < cost.last and cost.first <= cost.stays <= cost.last:
                        found[cost.window] = cost
    return tuple(found.values())


def missing(run: Run, sizes: Sequence[int]) -> list[Window]:
    """The windows of these sizes that are not measured yet, in the order in which they are best measured.

    Raises:
        ComeError: the run holds no analysis.
    """
    from come.models import describe
    from come.pruning.window_costs import likely_first

    measurement = run.measurement()
    if measurement is None:
        raise ComeError(f"The run {run.id} holds no analysis.", "Analyse the model first.")
    known = {cost.window for cost in read(run)}
    windows = likely_first(describe(run.config.model), measurement.block_influence, sizes)
    return [window for window in windows if window not in known]


def measure(
    run: Run,
    sizes: Sequence[int],
    *,
    seconds: float | None = None,
    only: Window | None = None,
    on_progress: OnProgress = None,
    go_on: Callable[[], bool] = lambda: True,
) -> int:
    """Find out what is missing, a window at a time, each kept at once; returns how many were measured.

    Merges are fitted on the analysis's calibration tokens. They are scored on the last of these and as many of `mix`.

    Args:
        run: a finished analysis.
        sizes: how many layers windows have.
        only: this window alone, whatever the sizes are.
        seconds: how long; no window is begun that would probably end later, but one always is.
        on_progress: told of each window.
        go_on: asked before each window; may wait.

    Raises:
        ComeError: there is no analysis, or its model cannot be measured like that.
    """
    from come.pruning.window_costs import window_costs
    from come.runs.shared import Shared

    windows = missing(run, sizes if only is None else [only[1] - only[0] + 1])
    windows = [window for window in windows if only in (None, window)]
    if not windows or not go_on():
        return 0
    config, shared = run.config, Shared()
    bundle = shared.bundle(config, on_progress)
    tokens = shared.tokens(bundle, config, "calibration", on_progress)
    also = _other_kinds(bundle, tokens, config)
    costs = window_costs(bundle, tokens, windows, also=also, batch_size=config.batch_size)
    files.end_line(run.path / FILE)
    spent = longest = 0.0
    for done, (first, last) in enumerate(windows):
        over = seconds is not None and done and spent + longest > seconds
        if over or not go_on():
            return done
        emit(on_progress, "windows", done, len(windows), f"Merging layers {first} to {last}")
        began = time.perf_counter()
        cost = next(costs)
        spent += time.perf_counter() - began
        longest = max(longest, cost.seconds)
        files.append_line(run.path / FILE, {"version": VERSION, **asdict(cost)})
    emit(on_progress, "windows", len(windows), len(windows), "All windows are measured")
    return len(windows)


def _other_kinds(bundle: Bundle, tokens: Tensor, config: RunConfig) -> Tensor | None:
    """As many tokens of `mix` as score of the calibration tokens; others, where these are of it."""
    from come.pruning.options import ScoredOptions
    from come.text import tokens as drawn
    from come.text.sources import MIX

    if len(tokens) < 2:  # which is refused
        return None
    count = ScoredOptions().held_out(*tokens.shape) * config.seq_len
    seed = config.seed + (config.text == MIX)
    return drawn(bundle, MIX, count, config.seq_len, "calibration", seed, bos=config.bos)
