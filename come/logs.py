"""What a server writes down of itself: JSON lines under ``COME_HOME/logs``, bounded, for the user's eyes alone.

A run writes its events.jsonl and log.txt itself; what is asked, answered or typed stands in no log.
"""

from __future__ import annotations

import json
import logging
import os
import platform
import time
import traceback
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from come import settings

MOST_BYTES = 4 << 20  # of a file; the one before it is kept too
LONGEST_MESSAGE = 4000  # characters
PACKAGES = ("come-lab", "torch", "transformers", "streamlit")


class JsonLines(logging.Handler):
    """Writes each record as a line of JSON; several processes may write to one file.

    Args:
        path: the file; when it is full it takes the place of PATH.1, and a new one begins.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        """Write it; a full disk, or a folder that may not be written to, loses the line and nothing else."""
        try:
            line = json.dumps(_told(record), ensure_ascii=False, default=str).encode("utf-8", "replace") + b"\n"
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line)
                full = os.fstat(descriptor).st_size > MOST_BYTES
            finally:
                os.close(descriptor)
            if full:
                self._path.replace(self._path.with_name(f"{self._path.name}.1"))
        except Exception:  # what is logged must not fail for want of a log
            return


def path_of(name: str) -> Path:
    """Where a server's log lies: "server" is the page's, "resident" the resident process's."""
    return settings.home() / "logs" / f"{name}.jsonl"


def write_to(name: str, loggers: Iterable[str], level: int = logging.INFO) -> None:
    """Have loggers written to a server's log, beside where they go already. None is made where the folder cannot be."""
    path = path_of(name)
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError:
        return
    handler = JsonLines(path)
    handler.setLevel(level)
    for each in map(logging.getLogger, loggers):
        if not any(isinstance(known, JsonLines) for known in each.handlers):
            each.addHandler(handler)


def note(name: str, message: str, **facts: Any) -> None:
    """Log that something happened, with facts beside it, by the logger of that name."""
    logger = logging.getLogger(name)
    logger.setLevel(min(logger.level or logging.INFO, logging.INFO))
    logger.info(message, extra={"facts": facts})


def versions() -> dict[str, str]:
    """What a server's first line names."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _told(record: logging.LogRecord) -> dict[str, Any]:
    facts = getattr(record, "facts", None)
    told: dict[str, Any] = {
        "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
        "level": record.levelname.lower(),
        "logger": record.name,
        "pid": record.process,
        "message": record.getMessage()[:LONGEST_MESSAGE],
        **(facts if isinstance(facts, Mapping) else {}),
    }
    if record.exc_info and record.exc_info[0] is not None:
        told["fault"] = "".join(traceback.format_exception(*record.exc_info))[-LONGEST_MESSAGE:]
    return told
