"""A run's plan or model as one .zip or .gguf, written on disk by a process of its own: no server holds it in memory."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from come import files, reading
from come.errors import ComeError
from come.files import human_bytes, size_of
from come.runs.kept_model import regular_files
from come.runs.run import MODEL, TAKEAWAY, Run
from come.serving import limits, side_jobs
from come.serving.side_jobs import SideJob

DTYPES = ("float32", "bfloat16", "float16")  # what a model is packed in, as a Transformers folder
GGUF = "gguf-"  # before a dtype of `gguf_families.BYTES`: the model as a GGUF file instead
PLAN = "plan"  # instead: plan.json with the files of tensors that it names
_MARGIN = 64 << 20  # bytes to leave free on the disk


@dataclass(frozen=True)
class Packed:
    """What is packed of a run, or how that stands: `file` is there when it is done."""

    file: Path | None
    job: SideJob

    @property
    def bytes(self) -> int:
        """The file's size."""
        return self.file.stat().st_size if self.file else 0


def start(run: Run, what: str) -> None:
    """Start packing in a process of its own; ``packed`` tells how it stands.

    Args:
        run: a finished run that pruned; where it kept the plan only, the model is made again from it.
        what: a dtype of ``DTYPES``, for the model in it; ``GGUF`` and a dtype, for a GGUF file; or ``PLAN``.

    Raises:
        ComeError: the run has not ended well, or has no plan; GGUF cannot hold its model's family; or there is no room
            for what a visitor may keep.
    """
    _check(run, what)
    if (visit := run.written_state().visit) and not packed(run, what).file:
        limits.current().make_room(run.path.parent, visit, expected_bytes(run, what), keep=[run])
    side_jobs.start(run, "come.serving.pack", _told(run, what), what, most=limits.current().downloads_each)


def packed(run: Run, what: str) -> Packed:
    """What is packed of a run, or how its packing stands; `what` as for ``start``."""
    job, file = side_jobs.read(_told(run, what)), _file(run, what)
    return Packed(file, job) if job.status == "done" and file.is_file() else Packed(None, _lost(job))


def plan_files(run: Run) -> list[Path]:
    """plan.json and the files of tensors that its steps name, all in the run's directory."""
    plan = run.path / "plan.json"
    try:
        steps = reading.values_in(reading.bytes_of(plan), plan.name)["steps"]
        names = dict.fromkeys(str(step["file"]) for step in steps if step.get("file"))
    except (OSError, ComeError, KeyError, TypeError, AttributeError):
        return []
    beside = [run.path / Path(name).name for name in names]
    return [plan, *(path for path in beside if path.is_file())]


def expected_bytes(run: Run, what: str) -> int:
    """How large a download will be, about (bytes): without tokenizer and configuration, which are small."""
    if what == PLAN:
        return sum(path.stat().st_size for path in plan_files(run))
    from come.export.gguf_families import BYTES as GGUF_BYTES
    from come.models.facts import BYTES

    sizes = GGUF_BYTES if what.startswith(GGUF) else BYTES
    parameters = (run.results().get("pruned") or {}).get("parameters") or 0
    return int(parameters * sizes[what.removeprefix(GGUF)])


def write(target: Path, inside: dict[str, Path]) -> None:
    """Write a .zip of files under the names given, uncompressed (weights hardly compress), a piece at a time.

    Raises:
        ComeError: the disk is full.
    """
    _check_room(target.parent, sum(path.stat().st_size for path in inside.values()))
    with (
        files.written_whole(target) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
    ):
        for name, path in inside.items():
            archive.write(path, name)


def _job(run: Run, what: str, tell: Callable[[str], None]) -> dict[str, Any]:
    _check(run, what)
    target = _file(run, what)
    if what == PLAN:
        tell("Packing the plan and its weights")
        write(target, {f"{target.stem}/{path.name}": path for path in plan_files(run)})
    elif what.startswith(GGUF):
        from come.runs import materialize

        target.unlink(missing_ok=True)
        materialize.write_gguf_of(run, target, what.removeprefix(GGUF), tell)
    else:
        from come.runs.materialize import model_in

        with model_in(run, (what,), tell) as folder:
            tell("Packing the model")
            # The weights that the plan names are in the model's own: twice they could outweigh what pruning saved.
            _pack_folder(folder, target, {path.name for path in plan_files(run)[1:]})
    return {"bytes": target.stat().st_size, "file": target.name}


def _pack_folder(folder: Path, target: Path, left_out: set[str]) -> None:
    kept = [path for path in regular_files(folder) if path.name not in left_out]
    write(target, {f"{target.stem}/{path.relative_to(folder)}": path for path in kept})


def _check(run: Run, what: str) -> None:
    if what.startswith(GGUF):
        from come.runs import materialize

        materialize.check_gguf(run, what.removeprefix(GGUF))
    elif what not in (*DTYPES, PLAN):
        raise ComeError(f"A model is not saved in {what}.", f"Choose {', '.join(DTYPES)}.")
    if not (run.path / "plan.json").is_file():
        raise ComeError(f"The run {run.id} has no plan.", "Only runs that prune have a model to take home.")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < needed + _MARGIN:
        raise ComeError(
            f"The download needs {human_bytes(needed)} on the disk, which has {human_bytes(free)} free.",
            "Remove the models of other runs, or choose a smaller dtype.",
        )


def _lost(job: SideJob) -> SideJob:
    """A job that is done, whose file was removed since, counts as never started."""
    return SideJob() if job.status == "done" else job


def _told(run: Run, what: str) -> Path:
    return run.path / TAKEAWAY / f"{what}.json"


def _file(run: Run, what: str) -> Path:
    name = f"{what.removeprefix(GGUF)}.gguf" if what.startswith(GGUF) else f"{what}.zip"
    return run.path / TAKEAWAY / f"{run.id}-{name}"


def drop_model(run: Run) -> int:
    """Remove a finished run's model and whatever was packed for download; its plan and its numbers stay.

    Returns:
        How many bytes that frees.

    Raises:
        ComeError: a process is at work on the run or packs it, no plan would be left, or a file cannot be removed.
    """
    state = run.state()
    if state.active:
        raise ComeError(f"The run {run.id} is {state.status}.", "Its model can be removed when it has ended.")
    if any(side_jobs.read(file).status == "working" for file in (run.path / TAKEAWAY).glob("*.json")):
        raise ComeError(f"The run {run.id} is being packed.", "Its model can be removed after that.")
    folders = [run.path / name for name in (MODEL, TAKEAWAY) if (run.path / name).is_dir()]
    if folders and not (run.path / "plan.json").is_file():
        raise ComeError(f"The run {run.id} has no plan.", "Its model could not be made again, so it stays.")
    freed = 0
    with files.disk_faults(run.path):
        for folder in folders:
            freed += size_of(folder)
            hidden = folder.rename(folder.with_name(f".deleted-{folder.name}"))  # a reader never sees half a model
            shutil.rmtree(hidden)
    return freed


def main() -> None:
    """``python -m come.serving.pack RUN WHAT``."""
    run, what = Run(Path(sys.argv[1])), sys.argv[2]
    side_jobs.work(run, _told(run, what), lambda tell: _job(run, what, tell))


if __name__ == "__main__":
    main()
