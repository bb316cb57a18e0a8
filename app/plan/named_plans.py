"""Plans kept under a name, as small JSON files beside the runs: a restart of the server loses none."""

from __future__ import annotations

import hashlib
import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app.plan import request
from app.state.choice import Choice, Draft, plan_fields
from come import files, settings
from come.errors import ComeError

LONGEST = 60  # characters of a name


@dataclass(frozen=True)
class NamedPlan:
    """A plan that was saved: under which name, when (seconds since 1970), and what of."""

    name: str
    saved: float
    choice: Choice
    draft: Draft


def folder() -> Path:
    """Where they lie."""
    return settings.runs_dir() / "plans"


def save(name: str, choice: Choice, draft: Draft) -> NamedPlan:
    """Keep a plan; one of the same name is replaced.

    Raises:
        ComeError: the name is empty or too long, or the disk refuses.
    """
    name = " ".join(name.split())
    if not name:
        raise ComeError("The plan has no name yet.", "Write one.")
    if len(name) > LONGEST:
        raise ComeError(f"The name has {len(name)} characters.", f"Use at most {LONGEST}.")
    plan = NamedPlan(name, time.time(), choice, draft)
    values = {
        "name": name,
        "saved": plan.saved,
        "request": json.loads(request.to_json(request.config(choice, plan_fields(draft)))),
    }
    with files.disk_faults(folder()):
        folder().mkdir(parents=True, exist_ok=True)
    files.replace(_path(name), json.dumps(values, indent=2, ensure_ascii=False) + "\n")
    return plan


def saved() -> list[NamedPlan]:
    """All that were saved, the newest first; a file that cannot be read is left out."""
    found = []
    for path in folder().glob("*.json"):
        # Another version's, or somebody else's file: the others are shown all the same.
        with suppress(OSError, ValueError, TypeError, KeyError, ComeError):
            values = json.loads(path.read_text(encoding="utf-8"))
            choice, draft = request.from_json(json.dumps(values["request"]))
            found.append(NamedPlan(str(values["name"]), float(values["saved"]), choice, draft))
    return sorted(found, key=lambda plan: -plan.saved)


def delete(name: str) -> None:
    """Remove a saved plan; one that is gone already is fine.

    Raises:
        ComeError: the folder may not be written.
    """
    with files.disk_faults(folder()):
        _path(name).unlink(missing_ok=True)


def _path(name: str) -> Path:
    """A file name that any system takes, one for each name."""
    plain = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    return folder() / f"{plain or 'plan'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}.json"
