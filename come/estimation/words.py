"""What an estimate says in sentences: what does not fit, and what the numbers rest on."""

from __future__ import annotations

import shutil
from pathlib import Path

from come import settings
from come.estimation.device import Device
from come.estimation.memory import Memory, Request
from come.files import human_bytes
from come.models import Facts
from come.pruning.schedule import Schedule
from come.request import RunConfig
from come.settings import rows_of
from come.text import SELF, known_texts


def evaluates(config: RunConfig) -> bool:
    """Whether a run measures perplexities."""
    return config.kind == "compress" and bool(config.evaluate)


def warnings_of(device: Device, memory: Memory, request: Request, disk: int, runs: Path | None) -> tuple[str, ...]:
    """A sentence for each room that the run does not fit, with what to do."""
    found = []
    smaller = "a smaller --dtype, " if request.dtype == "float32" else ""
    room = device.memory * (device.count if request.spread else 1)
    if memory.device > room:
        where = device.name if device.kind == "cuda" else "this machine's memory"
        spread = "--device balanced, " if device.kind == "cuda" and not request.spread else ""
        found.append(
            f"The run needs {human_bytes(memory.device)} of memory, and {where} has {human_bytes(room)} free: "
            f"choose {spread}{smaller}a smaller --batch-size, fewer --tokens, or a smaller model."
        )
    if device.kind == "cuda" and memory.host > device.main_memory:
        found.append(
            f"The run needs {human_bytes(memory.host)} of main memory, and {human_bytes(device.main_memory)} are free: "
            f"choose {smaller}fewer --tokens, a smaller memory_budget, or a smaller model."
        )
    folder = (runs or settings.runs_dir()).absolute()
    free = device.disk_free
    if free is None:
        free = shutil.disk_usage(next(path for path in (folder, *folder.parents) if path.exists())).free
    if disk > free:
        found.append(
            f"The run leaves {human_bytes(disk)} on disk, and {folder} has {human_bytes(free)} free: free some, choose "
            "a smaller --save-dtype, or keep only the plan (--plan-only)."
        )
    return tuple(found)


def offloading(memory: Memory) -> str:
    """That some weights are fetched for every batch, and what to do."""
    return (
        f"{memory.offloaded:.0%} of the weights do not fit the device and lie in main memory, which is slow: choose "
        "more devices, or a larger --batch-size, so that they are fetched less often."
    )


def hub_texts(config: RunConfig) -> list[str]:
    """The sets of the hub that a run reads, by name."""
    held = {source.name for source in known_texts() if source.where == "hub"}
    named = [config.text_of(use)[0] for use in config.uses]
    return [name for name in dict.fromkeys((rows_of(text) or (text,))[0] for text in named) if name in held]


def assumptions_of(
    config: RunConfig, facts: Facts, device: Device, schedule: Schedule, memory: Memory
) -> tuple[str, ...]:
    """What the numbers rest on, a short sentence each."""
    found = [
        f"Speeds measured on {device.name}."
        if device.measured
        else f"Speeds of {device.name} as given, not measured: an extrapolation."
    ]
    if not device.measured and device.count > 1:
        found.append(f"{device.count} devices hold more; layers run one after the other, so they are no faster.")
    if len(schedule.passes) > 1:
        share = sum(schedule.passes[1:]) / (len(schedule.passes) - 1) / facts.layers
        why = "windows where an analysis puts them" if schedule.analysed else "windows spread evenly over the depth"
        found.append(f"A pass after a merge runs {share:.0%} of the layers on average: {why}.")
    if schedule.passes and memory.stride > 1 and len(schedule.passes) > 1:
        found.append("Not all hidden states fit the memory budget; some layers are run again.")
    if schedule.guessed:
        found.append("How many candidates the method tries depends on what they show: a guess.")
    if evaluates(config):
        found.append("The original's perplexity is measured; where an earlier run has, that much is saved.")
    if SELF in (config.text_of(use)[0] for use in config.uses):
        found.append(
            "The model says its text 'self' first; where an earlier run had it say the same, that much is saved."
        )
    if texts := hub_texts(config):
        found.append(f"{' and '.join(texts)}: fetched from the hub when the run starts, where it is not here yet.")
    if config.recover:
        found.append("A recovery also holds the gradients and the optimiser's state of what it trains.")
    if not facts.converted:
        found.append("The model is converted first, once.")
    found.append("Fetching from the hub and waiting for other runs are not counted.")
    return tuple(found)
