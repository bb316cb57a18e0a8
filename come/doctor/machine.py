"""The machine: what computes, and how much room there is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from come import settings
from come.doctor.check import Check, State
from come.files import human_bytes

GIB = 1 << 30
SECONDS_TO_ASK_GPU = 90  # a driver that hangs is told of, not waited for
LITTLE_MEMORY, TOO_LITTLE_MEMORY = 3 * GIB, GIB
LITTLE_DISK, TOO_LITTLE_DISK = 10 * GIB, GIB
_CGROUP = Path("/sys/fs/cgroup/memory.max")
# In a process of its own: a driver that crashes ends that one. It computes, because being there is not working.
_PROBE = """
import json, torch
kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
device = torch.device(kind)
fine = bool(((torch.eye(64, device=device) @ torch.eye(64, device=device)).sum() == 64).item())
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if kind == "cuda" else []
free = [torch.cuda.mem_get_info(i)[0] for i in range(len(names))]
print(json.dumps({"kind": kind, "fine": fine, "names": names, "free": free, "torch": torch.__version__}))
"""


def device() -> Iterator[Check]:
    """What PyTorch computes on, tried."""
    cores = f"{psutil.cpu_count(logical=False) or os.cpu_count()} cores"
    try:
        done = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=SECONDS_TO_ASK_GPU, check=False
        )
        told = json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.TimeoutExpired:
        yield Check(
            "device", "bad", "PyTorch does not answer", "Restart the GPU's driver, or set CUDA_VISIBLE_DEVICES= ."
        )
        return
    except (ValueError, IndexError):
        last = (done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200]
        yield Check(
            "device", "bad", f"PyTorch does not work: {last}", "Install it again: make clean, then make install."
        )
        return
    if not told["fine"]:
        yield Check("device", "bad", f"{told['kind']} computes wrongly", "Take another device: --device cpu.")
    elif told["kind"] == "cpu" and _has_nvidia():
        yield Check(
            "device",
            "warn",
            f"CPU, {cores}, by PyTorch {told['torch']}; there is a GPU that it cannot use",
            "Install the CUDA build (docs/gpu.md): make clean, then make install without TORCH_INDEX.",
        )
    elif told["kind"] == "cuda":
        gpus = ", ".join(
            f"{name} ({human_bytes(free)} free)" for name, free in zip(told["names"], told["free"], strict=True)
        )
        busy = min(told["free"]) < 2 * GIB
        advice = "End what else uses it, or take --device cpu." if busy else ""
        yield Check("device", "warn" if busy else "ok", f"CUDA: {gpus}", advice)
    else:
        yield Check("device", "ok", f"{told['kind'].upper()}, {cores}, by PyTorch {told['torch']}")


def memory() -> Iterator[Check]:
    """Main memory that is free, within what a container may use."""
    about = psutil.virtual_memory()
    limit = _limit_of_container()
    free = (
        about.available if limit is None else min(about.available, max(limit - psutil.Process().memory_info().rss, 0))
    )
    state = _state(free, LITTLE_MEMORY, TOO_LITTLE_MEMORY)
    within = "" if limit is None else f", of {human_bytes(limit)} that this container may use"
    advice = (
        "" if state == "ok" else "End what else uses it: a model needs 4 bytes a parameter, and a run some of them."
    )
    yield Check("memory", state, f"{human_bytes(free)} free of {human_bytes(about.total)}{within}", advice)


def disks() -> Iterator[Check]:
    """The folders that are written to: room, and whether they may be."""
    for name, folder, variable in (
        ("disk of models", settings.home(), "COME_HOME"),
        ("disk of runs", settings.runs_dir(), "COME_RUNS"),
    ):
        there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
        elsewhere = f"Choose another folder with {variable}."
        try:
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            yield Check(name, "bad", f"{folder} may not be written to ({error.strerror})", elsewhere)
            continue
        free = shutil.disk_usage(there).free
        state = _state(free, LITTLE_DISK, TOO_LITTLE_DISK)
        advice = "" if state == "ok" else f"Free some space, such as by `come runs delete ID`. {elsewhere}"
        if folder.exists() and folder.stat().st_mode & 0o002:
            yield Check(name, "bad", f"{folder} may be written to by everybody", f"chmod o-w {folder}")
        yield Check(name, state, f"{human_bytes(free)} free at {folder}", advice)


def _state(free: float, little: float, too_little: float) -> State:
    return "bad" if free < too_little else "warn" if free < little else "ok"


def _limit_of_container() -> int | None:
    try:
        return int(_CGROUP.read_text("ascii"))
    except (OSError, ValueError):  # none, or "max"
        return None


def _has_nvidia() -> bool:
    return any(Path("/dev").glob("nvidia[0-9]*"))
