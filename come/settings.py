"""Where things are kept."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """The folder for converted models and measured figures: ``COME_HOME``, else ``~/.cache/come``."""
    return Path(os.environ.get("COME_HOME") or Path.home() / ".cache" / "come").expanduser()


def runs_dir() -> Path:
    """The folder of the runs: ``COME_RUNS``, else ``runs`` in the working directory."""
    return Path(os.environ.get("COME_RUNS") or "runs").expanduser()
