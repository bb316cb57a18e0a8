"""Peak memory of a run under a budget for hidden states, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

import psutil

from benchmarks.timing import markdown

MIB = 1 << 20
BUDGETS = (0, 64 * MIB, 256 * MIB, 1024 * MIB)

_WORK = """
import json, sys, psutil, threading, time
import come
from benchmarks.memory import watched
from benchmarks.timing import bundled
bundle, tokens = bundled()
bundle.fingerprint
print(json.dumps(watched(lambda: come.compress(bundle, tokens, target_layers=27, memory_budget=int(sys.argv[1])))))
"""


def table() -> str:
    """One row a budget."""
    rows = []
    for budget in BUDGETS:
        told = subprocess.run([sys.executable, "-c", _WORK, str(budget)], capture_output=True, text=True, check=True)
        before, peak, plan = json.loads(told.stdout.splitlines()[-1])
        rows.append((budget // MIB, before // MIB, peak // MIB, (peak - before) // MIB, plan))
    same = "the same plan under every budget" if len({row[-1] for row in rows}) == 1 else "PLANS DIFFER"
    columns = ("budget, MiB", "loaded, MiB", "peak, MiB", "on top of loaded, MiB")
    return markdown(columns, [row[:-1] for row in rows]) + f"\n\nMeasured as resident memory; {same}."


def watched(work: object) -> tuple[int, int, str]:
    """Resident bytes before a work and at its peak, sampled every 10 ms, and the plan that it came to."""
    process = psutil.Process()
    before = peak = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.is_set():
            peak = max(peak, process.memory_info().rss)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    result = work()  # type: ignore[operator]
    done.set()
    watcher.join()
    return before, peak, result.plan.model_dump_json(include={"steps"})
