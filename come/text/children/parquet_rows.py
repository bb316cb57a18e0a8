"""Reads a .parquet file: one question on stdin, a row a line on stdout."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from contextlib import suppress
from typing import Any

import pyarrow
from pyarrow.parquet import ParquetFile

with suppress(OSError, ValueError):  # systems differ in what they can bound
    with open("/proc/self/statm", encoding="ascii") as file:
        begun = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (begun + int(os.environ["COME_MEMORY"]),) * 2)


def say(told: dict[str, Any]) -> None:
    """One line of the answer; what JSON has no word for, such as a date, is no text either: a number stands for it."""
    sys.stdout.write(json.dumps(told, default=lambda _: 0) + "\n")


question = json.loads(sys.stdin.readline())
pyarrow.set_cpu_count(1)
signal.setitimer(signal.ITIMER_PROF, 10 * float(os.environ["COME_SECONDS"]))  # at its end the process is ended
try:
    with ParquetFile(question["path"], memory_map=True) as table:
        there = table.schema_arrow.names
        say({"answer": there[:20_000]})
        wanted = [name for name in there if name in (question["columns"] or there)] or there
        for batch in table.iter_batches(batch_size=64, columns=wanted, use_threads=False):
            for values in batch.to_pylist():
                say({"answer": values})
    say({"end": True})
except MemoryError:  # Arrow's is one, too
    os._exit(1)
except (pyarrow.ArrowException, OSError, ValueError, NotImplementedError, RecursionError) as error:
    say({"error": type(error).__name__})
