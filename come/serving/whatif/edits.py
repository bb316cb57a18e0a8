"""From edits of an original model to the steps of a plan."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from torch import Tensor

from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Bundle
from come.plan.plan import Plan, canonical
from come.plan.steps import Average, Concatenate, Step
from come.pruning.allocate import check_ratio
from come.pruning.by_hand import removal
from come.pruning.draft import steps_by_hand
from come.pruning.joint import MADE_BY, Candidate
from come.pruning.windows import Window, check_dropped, check_windows
from come.serving.whatif.question import Question
from come.transforms.compatible import check_mixable, note_for_window
from come.transforms.rebuild import base_of

METHOD = "what-if"
NO_FITS: Mapping[Window, Candidate] = MappingProxyType({})


def plan_of(
    question: Question, bundle: Bundle, measurement: Measurement | None, fits: Mapping[Window, Candidate] = NO_FITS
) -> Plan:
    """The plan that makes a question's edits: it rebuilds what the answer was about.

    Args:
        question: the edits.
        bundle: the original model.
        measurement: of the original, for what concatenations keep.
        fits: what its windows that are fitted become.

    Raises:
        ComeError: the edits are impossible.
    """
    plan = Plan(
        base=base_of(bundle),
        dtype=str(bundle.dtype).removeprefix("torch."),
        method=METHOD,
        options=canonical(question.model_dump()),
        calibration=_text_facts(measurement) if measurement else {},
        steps=steps_of(question, bundle, measurement, fits),
    )
    if fits:
        plan = plan.with_tensors(_moved(plan, bundle, fits), MADE_BY)
    for merge, step in zip(question.merges, plan.steps, strict=False):
        note = note_for_window(bundle, merge.first, merge.last) if isinstance(step, Concatenate) else None
        plan = plan.with_note(note) if note else plan
    return plan


def _text_facts(measurement: Measurement) -> dict[str, Any]:
    return {"tokens": measurement.n_tokens, "seq_len": measurement.seq_len, "bos": measurement.bos}


def steps_of(
    question: Question, bundle: Bundle, measurement: Measurement | None, fits: Mapping[Window, Candidate] = NO_FITS
) -> list[Step]:
    """The steps of a question, each in the numbering that holds by then: its merges, lowest first, then one removal.

    Raises:
        ComeError: the edits are impossible.
    """
    layers = len(bundle.layers)
    windows = check_windows([(merge.first, merge.last) for merge in question.merges], layers)
    dropped = check_dropped(question.dropped, windows, layers)
    concatenated = [merge for merge in question.merges if merge.how == "concatenate"]
    check_mixable(bundle, [(merge.first, merge.last) for merge in concatenated])
    made: dict[tuple[int, int], Concatenate] = {}
    if concatenated:
        by_hand = steps_by_hand(
            _fitting(measurement, bundle),
            [(merge.first, merge.last) for merge in concatenated],
            [merge.ratio for merge in concatenated],
            question.exponent,
            question.floor,
        )
        made = {(merge.first, merge.last): step for merge, step in zip(concatenated, by_hand, strict=True)}
    steps: list[Step] = []
    gone = 0
    for merge, (first, last) in zip(question.merges, windows, strict=True):
        window = (first - gone, last - gone)
        gone += last - first
        if merge.how == "concatenate":
            steps.append(made[first, last].model_copy(update={"window": window}))
        elif merge.how == "fit":
            steps.append(fits[first, last].step.model_copy(update={"window": window}))
        else:
            size = last - first + 1
            weights = merge.ratio if merge.ratio is not None else [1 / size] * size
            check_ratio(weights, size)
            steps.append(Average(window=window, weights=list(weights)))
    if dropped:
        steps.append(removal(dropped, windows))
    return steps


def _moved(plan: Plan, bundle: Bundle, fits: Mapping[Window, Candidate]) -> dict[str, Tensor]:
    """The weights that fits put in place, by their names in the pruned model."""
    place = {tuple(group): number for number, group in enumerate(plan.groups())}
    found: dict[str, Tensor] = {}
    for (first, last), candidate in fits.items():
        found |= candidate.placed(bundle.family.layers, place[tuple(range(first, last + 1))])
    return found


def _fitting(measurement: Measurement | None, bundle: Bundle) -> Measurement:
    if measurement is None:
        raise ComeError("Nothing says which channels matter: the model was not measured.", "Run the analysis first.")
    shape = bundle.shape
    expected = (shape.layers, shape.channels), (shape.layers, shape.kv_heads)
    if (tuple(measurement.mlp_sensitivity.shape), tuple(measurement.kv_group_sensitivity.shape)) != expected:
        raise ComeError("The analysis is of another model.", "Analyse the model that is asked about.")
    return measurement
