"""Timing in pairs: the machine is shared, so only what ran side by side compares."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch

import come
from come.models import Bundle

MODEL, TEXT = "smollm2-135m", "python-docs"


def machine() -> str:
    """The machine and the date, for the head of a table."""
    cpu = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            cpu = next(line.partition(":")[2].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return (
        f"{cpu}, {os.cpu_count()} cores, {torch.get_num_threads()} threads, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {datetime.date.today()}"
    )


def seconds(work: Callable[[], Any]) -> float:
    """How long one call takes, until a GPU has done all that it was given."""
    _wait()
    began = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - began


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def in_turn(works: Sequence[Callable[[], Any]], rounds: int) -> list[list[float]]:
    """Seconds of each work in each round; every round runs all of them, one after the other."""
    times: list[list[float]] = [[] for _ in works]
    for _ in range(rounds):
        for work, taken in zip(works, times, strict=True):
            taken.append(seconds(work))
    return times


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """The median over rounds of one work's time over another's."""
    return statistics.median(mine / theirs for mine, theirs in zip(times, base, strict=True))


def bundled(dtype: str = "float32", n_tokens: int = 8192, seq_len: int = 512) -> tuple[Bundle, torch.Tensor]:
    """The bundled model and calibration tokens of the bundled text."""
    bundle = come.load(MODEL, device="cpu", dtype=dtype)
    return bundle, come.tokens(bundle, TEXT, n_tokens=n_tokens, seq_len=seq_len)


@torch.inference_mode()
def forward(bundle: Bundle, tokens: torch.Tensor, batch_size: int, head: bool = False) -> None:
    """A plain forward of Transformers over all tokens: the trunk, or the whole model with its head."""
    model = bundle.model if head else bundle.model.get_submodule(bundle.family.trunk)
    for start in range(0, len(tokens), batch_size):
        model(input_ids=tokens[start : start + batch_size].to(bundle.model.device), use_cache=False)


def markdown(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; floats with three significant digits."""
    cells = [[f"{value:.3g}" if isinstance(value, float) else str(value) for value in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *cells]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
