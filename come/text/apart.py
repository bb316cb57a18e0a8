"""Programs of others, and files that unfold, in a process of their own: it ends when it takes too long or too much.

A chat template may loop for ever or build a text of any size, and a page of a table may unpack to a thousand times what
is on disk. Neither can be told beforehand, nor stopped in a thread.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import IO, Any

SECONDS = 2  # of one core, for one answer
MEMORY = 256 << 20  # bytes beyond what the process takes to begin with
LONGEST = 8_000_000  # characters of an answer

_CHILDREN = Path(__file__).with_name("children")


class Overrun(Exception):
    """It took more than it may, and was ended."""


class Refused(Exception):
    """It ended with an error of its own; the reason is what it said."""


class Apart:
    """A process that answers a JSON document with another, one at a time; started when it is first asked."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0
        self._turn = Lock()

    def ask(self, question: Any) -> Any:
        """The answer to a question.

        Raises:
            Overrun: there is none within time and memory. Refused: the program cannot answer it.
        """
        with self._turn:
            process = self._running()
            stdin, stdout = _pipes(process)
            try:
                stdin.write(json.dumps(question, default=str) + "\n")
                stdin.flush()
                line = stdout.readline()
            except OSError:
                line = ""
            if not line:
                self._process = None
                _end(process)
                raise Overrun
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["answer"]

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self._process, self._owner = _start(self._program, MEMORY), os.getpid()
        return self._process


@contextmanager
def answers(program: str, question: Any, memory: int = MEMORY) -> Iterator[Iterator[Any]]:
    """What a program says to one question, one JSON document after the other; it ends with the block.

    Raises (while they are read):
        Overrun: it was ended. Refused: it cannot answer.
    """
    process = _start(program, memory)
    try:
        stdin, stdout = _pipes(process)
        stdin.write(json.dumps(question) + "\n")
        stdin.close()
        yield _read(stdout)
    finally:
        _end(process)


def _read(stdout: IO[str]) -> Iterator[Any]:
    while line := stdout.readline():
        told = json.loads(line)
        if "error" in told:
            raise Refused(told["error"])
        if "end" in told:
            return
        yield told["answer"]
    raise Overrun


def _start(program: str, memory: int) -> subprocess.Popen[str]:
    bounds = {"COME_SECONDS": str(SECONDS), "COME_MEMORY": str(memory), "COME_LONGEST": str(LONGEST)}
    # Without torch the templates of Transformers are there in a second; Arrow's own pools reserve gigabytes.
    lean = {"USE_TORCH": "0", "ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-P", str(_CHILDREN / f"{program}.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **lean, **bounds, "PYTHONIOENCODING": "utf-8"},
        text=True,
        encoding="utf-8",
    )


def _pipes(process: subprocess.Popen[str]) -> tuple[IO[str], IO[str]]:
    assert process.stdin is not None and process.stdout is not None
    return process.stdin, process.stdout


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in _pipes(process):
        try:
            pipe.close()
        except OSError:  # what was not written yet has nobody to read it
            continue
