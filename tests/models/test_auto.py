"""Several threads that need Transformers for the first time at once, as visitors of a server that has just started."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[2]
TOGETHER = """
import sys, threading
import come.models

together, found = threading.Barrier(6), []

def describe():
    together.wait()
    found.append(come.models.describe(sys.argv[1]).layers)

threads = [threading.Thread(target=describe) for _ in range(together.parties)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(found)
"""


@pytest.mark.slow
def test_all_threads_of_a_new_process_read_a_model_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOGETHER, str(tiny_folder(tmp_path))]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert ended.stdout.strip() == str([6] * 6), ended.stderr[-2000:]
