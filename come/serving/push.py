"""A run's model pushed to the hub by a process of its own, which has the server's token from its environment."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from come.errors import ComeError
from come.export.hub import Destination
from come.runs.run import TAKEAWAY, Run
from come.serving import side_jobs
from come.serving.limits import is_demo
from come.serving.side_jobs import SideJob


def start(run: Run, to: Destination) -> None:
    """Start pushing in a process of its own; ``pushed`` tells how it stands.

    Raises:
        ComeError: the run has no model, the name is none, or visitors are strangers.
    """
    from come.runs.push import preview

    if is_demo():
        raise ComeError("In this public demonstration nothing is sent to the hub.", "Download the plan instead.")
    preview(run, to.repo)  # which refuses what cannot be sent
    side_jobs.start(run, "come.serving.push", _told(run), json.dumps(asdict(to)))


def pushed(run: Run) -> SideJob:
    """How the last push stands; once it is done, its values have the model's address, "url", and its name, "repo"."""
    return side_jobs.read(_told(run))


def _job(run: Run, to: Destination, tell: Callable[[str], None]) -> dict[str, Any]:
    from come.runs.push import push

    return {"repo": to.repo, **asdict(push(run, to, tell))}


def _told(run: Run) -> Path:
    return run.path / TAKEAWAY / "push.json"


def main() -> None:
    """``python -m come.serving.push RUN DESTINATION``, the latter as JSON."""
    run, to = Run(Path(sys.argv[1])), Destination(**json.loads(sys.argv[2]))
    side_jobs.work(run, _told(run), lambda tell: _job(run, to, tell))


if __name__ == "__main__":
    main()
