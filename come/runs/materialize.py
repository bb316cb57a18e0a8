"""A finished run's model as a folder in a dtype or as a GGUF file: what the run keeps, or rebuilt from its plan."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from come import reading
from come.errors import ComeError
from come.events import Event
from come.export.gguf_families import BYTES, FOLDER_INSTEAD, why_not
from come.runs.documents import PLAN
from come.runs.kept_model import changed_file, stored_dtype
from come.runs.run import MODEL, Run


@contextmanager
def model_in(run: Run, dtypes: tuple[str, ...], tell: Callable[[str], None]) -> Iterator[Path]:
    """The run's pruned model as a folder that Transformers loads; one that is rebuilt for this is removed at the end.

    Args:
        run: a finished run that pruned.
        dtypes: any of these will do; where the run keeps none of them, or its files are not as it saved them, the
            model is rebuilt in the first.
        tell: is told what is being done.

    Raises:
        ComeError: the base model cannot be had any more, or the disk is full.
    """
    kept = stored_dtype(run) in dtypes
    changed = changed_file(run) if kept else ""
    if kept and not changed:
        yield run.path / MODEL
        return
    from come.export.folder import save
    from come.transforms.rebuild import rebuild

    plan = run.plan()
    if plan is None:
        raise ComeError(f"The run {run.id} has no plan, so it has no model to write.")
    tell("Making the model from its plan" if not changed else f"{changed} is not as it was saved: making it anew")
    bundle = rebuild(run.config.model, plan, "cpu", None, lambda event: tell(event.message or "Making the model"))
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".pack-") as temporary:
        tell(f"Writing it in {dtypes[0]}")
        folder = save(bundle, Path(temporary) / MODEL, dtypes[0], results=run.results())
        del bundle  # whoever reads the folder need not find the model in memory as well
        yield folder


def check_done(run: Run) -> None:
    """See that a run has come to its end.

    Raises:
        ComeError: it has not, or a file of it is damaged.
    """
    run.check()
    if (status := run.state().status) != "done":
        raise ComeError(f"The run {run.id} is {status}.", "Its model is there when it is done.")


# What a GGUF file in a dtype may be written from: a kept folder of these, else one made from the plan in the first.
_FROM = {dtype: (dtype, "float32") for dtype in BYTES} | {"q8_0": ("float32", "bfloat16", "float16")}


def why_no_gguf(run: Run) -> str:
    """One sentence that says why a run's model cannot be written as GGUF; "" where its family can."""
    path = run.path / PLAN
    try:
        plan = reading.values_in(reading.bytes_of(path), str(path))
        return why_not(str(plan["base"]["model_type"]))
    except ComeError as error:
        return error.what
    except (FileNotFoundError, KeyError, TypeError):
        return f"The run {run.id} has no plan, so it has no model to write."


def check_gguf(run: Run, dtype: str) -> None:
    """See that a run's model can be written before anything is done for it.

    Raises:
        ComeError: its family or the dtype cannot be written.
    """
    if dtype not in BYTES:
        raise ComeError(f"A GGUF file is not written in {dtype!r}.", f"Choose {', '.join(BYTES)}.")
    if reason := why_no_gguf(run):
        raise ComeError(reason, FOLDER_INSTEAD)


def write_gguf_of(run: Run, path: Path, dtype: str, tell: Callable[[str], None]) -> Path:
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

    check_done(run)
    check_gguf(run, dtype)
    last = -1

    def tell_of(event: Event) -> None:
        nonlocal last
        if (share := 10 * event.step // event.of) != last:
            last = share
            tell(f"{event.message}, {10 * share} %")

    with model_in(run, _FROM[dtype], tell) as folder:
        return write_gguf(folder, path, dtype, license_of(run.config.model), tell_of)
