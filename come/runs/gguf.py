"""A finished run's model as one GGUF file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from come.errors import ComeError
from come.events import Event
from come.export.gguf_families import BYTES, FOLDER_INSTEAD, why_not
from come.runs.materialize import model_in
from come.runs.store import Run

# What a GGUF file in a dtype may be written from: a kept folder of these, else one made from the plan in the first.
_FROM = {dtype: (dtype, "float32") for dtype in BYTES} | {"q8_0": ("float32", "bfloat16", "float16")}


def why_not_of(run: Run) -> str:
    """One sentence that says why a run's model cannot be written as GGUF; "" where its family can."""
    try:
        return why_not(json.loads((run.path / "plan.json").read_text("utf-8"))["base"]["model_type"])
    except (OSError, ValueError, KeyError):
        return f"The run {run.id} has no plan, so it has no model to write."


def check(run: Run, dtype: str) -> None:
    """See that a run's model can be written before anything is done for it.

    Raises:
        ComeError: its family or the dtype cannot be written.
    """
    if dtype not in BYTES:
        raise ComeError(f"A GGUF file is not written in {dtype!r}.", f"Choose {', '.join(BYTES)}.")
    if reason := why_not_of(run):
        raise ComeError(reason, FOLDER_INSTEAD)


def write(run: Run, path: Path, dtype: str, tell: Callable[[str], None]) -> Path:
    """Write a finished run's model as a GGUF file (``come.export.gguf_write.write_gguf``).

    Args:
        run: a run that pruned; where it kept the plan only, or less precise weights, the model is made again.
        path: the file; it must not exist yet.
        dtype: one of ``BYTES``.
        tell: is told what is being done.

    Raises:
        ComeError: the run has not ended well, or its model cannot be written.
    """
    from come.export.gguf_write import write_gguf
    from come.models.facts import license_of

    if (status := run.state().status) != "done":
        raise ComeError(f"The run {run.id} is {status}.", "Its model is there when it is done.")
    check(run, dtype)
    last = -1

    def tell_of(event: Event) -> None:
        nonlocal last
        if (share := 10 * event.step // event.of) != last:
            last = share
            tell(f"{event.message}, {10 * share} %")

    with model_in(run, _FROM[dtype], tell) as folder:
        return write_gguf(folder, path, dtype, license_of(run.config.model), tell_of)
