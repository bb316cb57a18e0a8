"""How few layers the calibration sequences of an analysis would have needed, kept beside it as one small document."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, Field, StrictBool, TypeAdapter, model_validator

from come import files, reading
from come.errors import ComeError
from come.events import OnProgress, emit
from come.runs.results_shape import Layer, Positive
from come.runs.run import Run

if TYPE_CHECKING:
    from come.pruning.layers_needed import LayersNeeded

FILE = "layers_needed.json"
VERSION = 1  # raised when the searches find otherwise: what was measured before says nothing then
PASSES = 100.0
LARGEST = 1 << 20  # bytes


@dataclass(frozen=True)
class Search:
    """What the first calibration sequences of an analysis need at one tolerance.

    Attributes:
        tolerance: by how many nats a token the loss may be above that with all layers.
        passes: what the greedy search might cost a sequence, in passes through all layers.
        tokens: of a sequence.
        found: a sequence each, in their order.
    """

    tolerance: float
    passes: float
    tokens: int
    found: tuple[LayersNeeded, ...]


def read(run: Run, layers: int) -> dict[float, Search]:
    """What is known of an analysed model of so many layers, by tolerance; empty where nothing is.

    Raises:
        ComeError: the document is damaged, or of another model.
    """
    from come.pruning.layers_needed import LayersNeeded

    path = run.path / FILE
    try:
        document = reading.document(path, _DOCUMENT, LARGEST)
    except FileNotFoundError:
        return {}
    if document.version != VERSION:
        return {}
    if document.layers != layers:
        raise reading.unreadable(path, f"it is of a model of {document.layers} layers, not {layers}")
    return {
        each.tolerance: Search(
            each.tolerance,
            each.passes,
            each.tokens,
            tuple(LayersNeeded(**{**one.model_dump(), "kept": tuple(one.kept)}) for one in each.found),
        )
        for each in document.searches
    }


def measure(
    run: Run,
    sequences: int,
    tolerance: float = 0.0,
    passes: float = PASSES,
    *,
    seconds: float | None = None,
    on_progress: OnProgress = None,
    go_on: Callable[[], bool] = lambda: True,
) -> tuple[LayersNeeded, ...]:
    """``come.pruning.layers_needed`` of the first calibration sequences of an analysis, each kept at once.

    What was found before with the same tolerance and passes is gone on with.

    Args:
        run: a finished analysis.
        sequences: of how many; all that there are, where these are fewer.
        tolerance, passes: as there.
        seconds: how long; no sequence is begun that would probably end later, but one always is.
        on_progress: told of each sequence.
        go_on: asked before each sequence; may wait.

    Raises:
        ComeError: the model's values are not finite, or the tolerance is below 0.
    """
    from come.pruning.layers_needed import layers_needed
    from come.runs.shared import Shared

    shared = Shared()
    bundle = shared.bundle(run.config, on_progress)
    tokens = shared.tokens(bundle, run.config, "calibration", on_progress)[:sequences]
    layers, known = len(bundle.layers), dict[float, Search]()
    with suppress(ComeError):  # a damaged document is written anew
        known = read(run, layers)
    before = known.get(tolerance)
    found = before.found if before and (before.passes, before.tokens) == (passes, tokens.shape[1]) else ()
    spent = longest = 0.0
    for number in range(len(found), len(tokens)):
        over = seconds is not None and spent and spent + longest > seconds
        if over or not go_on():
            return found
        emit(on_progress, "oracle", number, len(tokens), f"How few layers sequence {number} needs")
        began = time.perf_counter()
        found += tuple(layers_needed(bundle, tokens[number : number + 1], tolerance, passes))
        longest = max(longest, time.perf_counter() - began)
        spent += time.perf_counter() - began
        _write(run, layers, {**known, tolerance: Search(tolerance, passes, tokens.shape[1], found)})
    emit(on_progress, "oracle", len(tokens), len(tokens), "All sequences are searched")
    return found[: len(tokens)]


def _write(run: Run, layers: int, known: dict[float, Search]) -> None:
    searches = [asdict(known[tolerance]) for tolerance in sorted(known)]
    document = {"version": VERSION, "layers": layers, "searches": searches}
    files.replace(run.path / FILE, json.dumps(document, indent=1))


Some = Annotated[int, Field(strict=True, ge=1, lt=100_000)]


class _Sequence(BaseModel):
    loss: Positive
    kept: Annotated[list[Layer], Field(min_length=1, max_length=100_000)]
    kept_loss: Positive
    uniform: Some
    uniform_loss: Positive
    complete: StrictBool


class _Search(BaseModel):
    tolerance: Positive
    passes: Positive
    tokens: Annotated[int, Field(strict=True, ge=2, lt=2**53)]
    found: Annotated[list[_Sequence], Field(min_length=1, max_length=10_000)]


class _Document(BaseModel):
    version: int
    layers: Some
    searches: Annotated[list[_Search], Field(max_length=1_000)]

    @model_validator(mode="after")
    def _within(self) -> _Document:
        for one in (one for each in self.searches for one in each.found):
            if one.kept != sorted(set(one.kept)) or one.kept[-1] >= self.layers or one.uniform > self.layers:
                raise ValueError("layers that a sequence keeps are not those of the model, in their order")
        return self


_DOCUMENT: TypeAdapter[_Document] = TypeAdapter(_Document)
