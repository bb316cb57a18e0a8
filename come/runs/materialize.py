"""A finished run's pruned model as a folder in a dtype: the one that the run keeps, or rebuilt from its plan."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from come.runs.store import MODEL, Run


def stored_dtype(run: Run) -> str | None:
    """The dtype of the model that the run keeps; None where it keeps none."""
    try:
        config = json.loads((run.path / MODEL / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")


@contextmanager
def model_in(run: Run, dtypes: tuple[str, ...], tell: Callable[[str], None]) -> Iterator[Path]:
    """The run's pruned model as a folder that Transformers loads; one that is rebuilt for this is removed at the end.

    Args:
        run: a finished run that pruned.
        dtypes: any of these will do; where the run keeps none of them, the model is rebuilt in the first.
        tell: is told what is being done.

    Raises:
        ComeError: the base model cannot be had any more, or the disk is full.
    """
    if stored_dtype(run) in dtypes:
        yield run.path / MODEL
        return
    from come.export.folder import save
    from come.transforms.rebuild import rebuild

    plan = run.plan()
    assert plan is not None
    tell("Making the model from its plan")
    bundle = rebuild(run.config.model, plan, "cpu", None, lambda event: tell(event.message or "Making the model"))
    with tempfile.TemporaryDirectory(dir=run.path, prefix=".pack-") as temporary:
        tell(f"Writing it in {dtypes[0]}")
        folder = save(bundle, Path(temporary) / MODEL, dtypes[0], results=run.results())
        del bundle  # whoever reads the folder need not find the model in memory as well
        yield folder
