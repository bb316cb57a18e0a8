"""A sweep: methods x targets x seeds on one model and text, each cell a run of its own, all in one process."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.events import OnProgress
from come.request import RunConfig, anchored
from come.runs.execute import RunFault, execute
from come.runs.process import claim
from come.runs.run import CANCEL_REQUEST, Run
from come.runs.store import Admission, create, list_runs


@dataclass(frozen=True)
class Sweep:
    """What is to be compared.

    Attributes:
        base: what all cells have in common.
        methods: names of methods.
        targets: how many layers to leave; or
        sparsities: which shares of the parameters to remove.
        seeds: each draws calibration sequences, and whatever a method draws, anew.
        options: by method, its options.
    """

    base: RunConfig
    methods: Sequence[str]
    targets: Sequence[int] = ()
    sparsities: Sequence[float] = ()
    seeds: Sequence[int] = (0,)
    options: dict[str, dict[str, Any]] = field(default_factory=dict)

    def cells(self) -> list[RunConfig]:
        """The request of every cell: by seed, then method, and from the mildest pruning to the hardest.

        That order lets cells share: one seed has one set of tokens, and a step-by-step method goes on from its
        milder result.

        Raises:
            ComeError: there is no such method, or nothing says which or how far.
        """
        from come.pruning.registry import method

        if not self.methods:
            raise ComeError("A sweep needs a method.", "Name one or several of `come methods`.")
        if bool(self.targets) == bool(self.sparsities):
            raise ComeError("A sweep needs targets.", "Give target layers or sparsities, one kind of them.")
        if not self.seeds:
            raise ComeError("A sweep needs a seed.", "Give one or several.")
        targets = sorted(set(self.targets), reverse=True)
        reaches: list[dict[str, Any]] = [{"target_layers": target} for target in targets]
        reaches += [{"sparsity": sparsity} for sparsity in sorted(set(self.sparsities))]
        cells = [
            self.base.model_dump()
            | {"method": method(name).name, "options": self.options.get(name, {}), "seed": seed, **reach}
            for seed in dict.fromkeys(self.seeds)
            for name in dict.fromkeys(self.methods)
            for reach in reaches
        ]
        return as_sweep([RunConfig.model_validate(cell) for cell in cells], self.base.sweep)


def as_sweep(requests: Sequence[RunConfig], name: str = "", visit: str = "") -> list[RunConfig]:
    """Requests as the cells of one sweep; without a name, one that the same requests of the same visit get again."""
    name = name or _name([request.model_dump() for request in requests], visit)
    return [request.model_copy(update={"sweep": name}) for request in requests]


def variant(request: RunConfig, method: str, target_layers: int, seed: int) -> RunConfig:
    """A cell of a comparison: a request by another method, to another depth, or with other calibration sequences.

    Args:
        request: what is compared.
        method: which method; its options are kept where it is the request's own.
        target_layers: how many layers are left.
        seed: draws the sequences.
    """
    kept = {name: value for name, value in request.options.items() if name not in ("windows", "ratios", "drop")}
    fields = request.model_dump() | {
        "method": method,
        "target_layers": target_layers,
        "sparsity": None,
        "options": kept if method == request.method else {},
        "windows_by_cost": False,
        "asked": request.asked if target_layers == request.target_layers else None,
        "seed": seed,
        "name": f"{request.name} · {method}" if request.name else "",
    }
    return RunConfig.model_validate(fields)


def prepare(
    cells: Sequence[RunConfig], runs: Path | None = None, allowed: Admission | None = None, visit: str = ""
) -> list[Run]:
    """A run for every cell of a sweep, in order; those that the same sweep of the same visit has left are taken up.

    A cell that cannot succeed is there as a failed run, so that the others go on.

    Args:
        cells: requests that ``as_sweep`` has named.
        runs: the folder of runs.
        allowed: what may be asked for; everything, by default.
        visit: whose request it is, where visitors are strangers; see ``State.visit``.

    Raises:
        ComeError: no cell can succeed, or they are more than is allowed here; nothing was made.
    """
    if allowed is None:
        return _prepared(cells, runs, allowed, visit)
    with allowed.admitted(cells, runs, visit, but=cells[0].sweep):
        return _prepared(cells, runs, allowed, visit)


def _prepared(cells: Sequence[RunConfig], runs: Path | None, allowed: Admission | None, visit: str) -> list[Run]:
    cells = [anchored(cell) for cell in cells]
    left = [run for run in runs_of(cells[0].sweep, runs) if run.written_state().visit == visit]
    known = {run.config.model_dump_json(): run for run in left}
    made: list[Run | None] = []
    refusals: list[tuple[int, RunConfig, ComeError]] = []
    for cell in cells:
        try:
            made.append(known.get(cell.model_dump_json()) or create(cell, runs, allowed=allowed, visit=visit))
        except ComeError as error:
            refusals.append((len(made), cell, error))
            made.append(None)
    if len(refusals) == len(cells):
        raise refusals[0][2]
    for place, cell, refusal in refusals:
        made[place] = create(cell, runs, refused=refusal, visit=visit)
    return [run for run in made if run is not None]


def execute_all(runs: Sequence[Run], on_progress: OnProgress = None) -> None:
    """Execute runs here, one after the other, loading what they share once. How each ends is in its state.

    Raises:
        KeyboardInterrupt: all of it was interrupted, not a single run cancelled.
    """
    from come.runs.shared import Shared

    todo = [run for run in runs if run.state().status != "done"]
    for run in todo:
        with suppress(ComeError):  # another process is at work on it
            claim(run)
    shared = Shared()
    for place, run in enumerate(todo):
        if run.state().status != "queued":
            continue  # cancelled while it waited, or another process has it
        try:
            execute(run, on_progress, shared)
        except (ComeError, RunFault):
            continue
        except KeyboardInterrupt:
            if (run.path / CANCEL_REQUEST).exists():
                continue
            for left in todo[place + 1 :]:
                if left.state().status == "queued":
                    left.update(status="cancelled")
            raise


def runs_of(sweep: str, runs: Path | None = None) -> list[Run]:
    """The runs of a sweep, in the order they were made in."""
    found = []
    for run in reversed(list_runs(runs)):
        with suppress(ComeError):
            if run.config.sweep == sweep:
                found.append(run)
    return found


def _name(cells: Sequence[dict[str, Any]], visit: str) -> str:
    """The same for the same request, so that asking again goes on with what is there; another one for each visit."""
    asked = visit + json.dumps(cells, sort_keys=True)
    return f"sweep-{hashlib.sha256(asked.encode()).hexdigest()[:8]}"
