"""A finished run's model on its way to the hub: what is sent, and sending it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from come import reading
from come.errors import ComeError
from come.export.hub import Destination, Hub, Pushed, check_repo
from come.export.metadata import metadata, with_metadata
from come.models.facts import BYTES
from come.models.source import hub_id
from come.plan.plan import Plan
from come.plan.steps import Replace
from come.plan.weights import missing
from come.runs.documents import PLAN, RESULTS
from come.runs.kept_model import CARD, LARGEST_CARD, changed_file, regular_files, stored_dtype
from come.runs.materialize import check_done, model_in
from come.runs.run import MODEL, Run

if TYPE_CHECKING:
    from huggingface_hub import ModelCardData


@dataclass(frozen=True)
class Preview:
    """What a push sends.

    Attributes:
        files: those that are at hand, by name, with their bytes.
        dtype: of the weights.
        made_bytes: about how large the weights are that are made from the plan first; 0 where the run keeps a model.
        card: the card's metadata, as YAML.
    """

    files: dict[str, int]
    dtype: str
    made_bytes: int
    card: str

    @property
    def bytes(self) -> int:
        """All of it, about where a model is made first."""
        return sum(self.files.values()) + self.made_bytes


def preview(run: Run, repo: str, dtype: str | None = None, look_at_files: bool = False) -> Preview:
    """What pushing a run would send; nothing is made or sent, and no token is needed.

    Args:
        run: a finished run that pruned.
        repo: owner/name.
        dtype: of the weights; the run's own by default.
        look_at_files: read the model's files: where they are not as the run saved them, it will be made anew.

    Raises:
        ComeError: the run has no model, the name is none, or weights are not saved in that dtype.
    """
    check_repo(repo)
    plan, dtype = _pruned(run, dtype)
    card = _metadata(run, plan, repo)
    own = _own_files(run, plan)
    if stored_dtype(run) == dtype and not (look_at_files and changed_file(run)):
        sent, made = _files(run.path / MODEL, own, card), 0
    else:
        parameters = (run.results().get("pruned") or {}).get("parameters") or plan.base.parameters
        beside = {step.file: _weights(run, step.file) for step in plan.steps if isinstance(step, Replace)}
        sent, made = {**own, **beside}, parameters * BYTES[dtype]
    return Preview({name: _bytes(source) for name, source in sent.items()}, dtype, made, card.to_yaml())


def push(run: Run, to: Destination, tell: Callable[[str], None], dtype: str | None = None) -> Pushed:
    """Send a run's model folder to the hub, with a card, plan.json and results.json.

    Args:
        run: a finished run that pruned; where it keeps no model in the dtype, the model is made from its plan.
        to: where to.
        tell: is told what is being done.
        dtype: of the weights; the run's own by default.

    Raises:
        ComeError: the run has no model, it cannot be made, the hub cannot be reached, or it refuses.
    """
    plan, dtype = _pruned(run, dtype)
    tell(f"Asking the hub for {to.repo}")
    hub = Hub(to)  # before a model is made for nothing
    with model_in(run, (dtype,), tell) as folder:
        return hub.send(_files(folder, _own_files(run, plan), _metadata(run, plan, to.repo)), tell)


def _pruned(run: Run, dtype: str | None) -> tuple[Plan, str]:
    """The plan of a run, and the dtype that its model is sent in."""
    check_done(run)
    plan = run.plan()
    if plan is None:
        raise ComeError(f"The run {run.id} has no plan, so it has no model.", "Only runs that prune have one to push.")
    dtype = dtype or stored_dtype(run) or plan.dtype
    if dtype not in BYTES:
        raise ComeError(f"A model is not saved in {dtype}.", f"Choose {', '.join(BYTES)}.")
    return plan, dtype


def _metadata(run: Run, plan: Plan, repo: str) -> ModelCardData:
    return metadata(run.config.model, plan, run.results(), repo.rpartition("/")[2])


def without_path(plan: Plan) -> Plan:
    """A plan as others may read it: of a base model that lies in a folder of this machine, its last name."""
    source = plan.base.source
    if hub_id(source) or os.path.basename(source) == source:
        return plan
    return plan.model_copy(update={"base": plan.base.model_copy(update={"source": Path(source).name})})


def _own_files(run: Run, plan: Plan) -> dict[str, Path | bytes]:
    """The plan and the results, which say how the model was made; no path of this machine is told."""
    told = without_path(plan)
    written = run.path / PLAN if told is plan else told.model_dump_json().encode()
    results = run.path / RESULTS
    return {PLAN: written, **({RESULTS: results} if results.is_file() else {})}


def _weights(run: Run, file: str) -> Path:
    """A file of weights that the run's plan names.

    Raises:
        ComeError: it is not there.
    """
    if not (run.path / file).is_file():
        raise missing(file)
    return run.path / file


def _files(folder: Path, own: dict[str, Path | bytes], card: ModelCardData) -> dict[str, Path | bytes]:
    """All files of a push, by name."""
    found: dict[str, Path | bytes] = {path.relative_to(folder).as_posix(): path for path in regular_files(folder)}
    written = reading.bytes_of(folder / CARD, LARGEST_CARD).decode("utf-8", errors="replace")
    return {**found, **own, CARD: with_metadata(written, card).encode()}


def _bytes(source: Path | bytes) -> int:
    return len(source) if isinstance(source, bytes) else source.stat().st_size
