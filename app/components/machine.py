"""Where work starts: which device it will run on, how much memory is free, what runs, and the place in the line."""

from __future__ import annotations

import psutil
import streamlit as st

from app import formats
from app.state import time_left
from come.estimation.device import known_device
from come.files import human_bytes

BUSY = 1.5  # programs that want a core, for each that there is, of the last minute


def draw() -> None:
    """A quiet line of all that."""
    st.caption(f":material/memory: {_device()} · {_line()}")


def _device() -> str:
    """What is free, and of an accelerator its name, where it has been measured."""
    known = known_device()
    memory = psutil.virtual_memory()
    main = f"{human_bytes(memory.available)} of {human_bytes(memory.total)} of memory free"
    if known is None or known.kind == "cpu":  # its name is said where the estimate is explained
        return main
    name = formats.literal(known.name)
    if known.kind != "cuda":
        return f"{name}, {main}"
    several = f"{known.count} × " if known.count > 1 else ""
    return f"{several}{name}, {human_bytes(known.memory)} of it free; {main}"


def _line() -> str:
    """What is at work, and when another run would begin."""
    line = time_left.in_line()
    if not line:
        busy = psutil.getloadavg()[0] > BUSY * (psutil.cpu_count() or 1)
        return "yours starts at once" + (
            ", but other programs keep this machine busy: it may take longer" if busy else ""
        )
    left = time_left.of_all(line).left
    begins = "" if left is None else f", in about {formats.about(left)}"
    return f"{len(line)} run{'' if len(line) == 1 else 's'} at work or waiting: yours is number {len(line) + 1}{begins}"
