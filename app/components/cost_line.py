"""What runs will take, said before they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app import formats
from app.components.how_sure import how_sure
from app.formats import about, duration, human_bytes
from come.errors import ComeError
from come.estimation.cost import estimate
from come.estimation.device import known_device
from come.estimation.sweep import less_shared
from come.measurement.measurement import Measurement
from come.models import Facts
from come.models.facts import BYTES
from come.request import RunConfig
from come.runs.foreseen import usual_device
from come.serving import limits

NOT_MEASURED = "The time is known once a first run has measured this machine."


@dataclass(frozen=True)
class Cost:
    """A sentence of what runs will take, one for each thing that does not fit, and why they are not allowed, if so.

    `basis` is what the sentence rests on; `seconds` are those of the sentence, where they are known.
    """

    sentence: str
    warnings: tuple[str, ...] = ()
    refusal: str = ""
    seconds: float | None = None
    basis: str = ""


def cost(requests: Sequence[RunConfig], facts: Facts, measured: Measurement | None, *, usual: bool = False) -> Cost:
    """What runs on one model will take, one after the other, by this machine's remembered speed.

    `usual`: where that is not known yet, by a usual machine's, which the sentence then names.
    """
    dtype = facts.dtype if facts.dtype in BYTES else "float32"
    dtype = requests[0].dtype if requests and requests[0].dtype != "auto" else dtype
    allowed = limits.current()
    known = known_device(dtype)
    device = known or (usual_device(dtype) if usual or allowed.run_minutes is not None else None)
    if device is None:
        return Cost(NOT_MEASURED)
    try:
        found = [estimate(request, facts, device, measurement=measured) for request in requests]
    except ComeError as error:
        return Cost(str(error))
    if not found:
        return Cost("")
    taken = less_shared([(asked, each.seconds_by_stage) for asked, each in zip(requests, found, strict=True)])
    seconds, converting = (sum(sum(stages.values()) for stages in taken), taken[0].get("convert", 0.0))
    once = f" {duration(converting)} of the time is to convert the model, once." if converting >= 1 else ""
    memory, disk = max(each.memory_bytes for each in found), sum(each.disk_bytes for each in found)
    refusal = ""
    try:
        allowed.check_seconds([each.seconds for each in found])
    except ComeError as error:
        refusal = str(error)
    warnings = tuple(dict.fromkeys(warning for each in found for warning in each.warnings))
    where, whose = ("", "this machine: ") if known else (f" on {device.name}", "")
    return Cost(
        f"Expected{where}: about {about(seconds)}, {human_bytes(memory)} of memory, {human_bytes(disk)} on disk.",
        warnings,
        refusal,
        seconds,
        f"An estimate, from the speed of {whose}{formats.literal(device.name)}; the memory is that at the peak.{once}",
    )


def draw(found: Cost) -> str:
    """What runs will take, and what does not fit; why they are not allowed, if so."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(found.sentence, width="content")
        if found.basis:
            how_sure(found.basis, key="how-sure-cost")
    return problems(found)


def problems(found: Cost) -> str:
    """What does not fit; why runs are not allowed, if so."""
    for warning in found.warnings:
        st.warning(warning, icon=":material/memory:")
    if found.refusal:
        st.warning(formats.sentence(found.refusal), icon=":material/hourglass_disabled:")
    return found.refusal
