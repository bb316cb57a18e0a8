"""scripts/audit.sh: a known weakness fails, and nothing else does. A script here stands for pip-audit's answers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "audit.sh"


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        ("echo No known vulnerabilities found >&2", 0, "No known weakness"),
        ("echo 'Found 1 known vulnerability'; echo 'Name Version ID Fix Versions'; exit 1", 1, "Fix Versions"),
        ("echo 'ConnectionError: no route' >&2; exit 1", 0, "Skipped"),
        ("sleep 30", 0, "Skipped"),
    ],
)
def test_only_a_known_weakness_fails(tmp_path: Path, answer: str, status: int, said: str):
    for folder in ("scripts", ".venv-tools/bin"):
        (tmp_path / folder).mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "scripts")
    tool = tmp_path / ".venv-tools" / "bin" / "pip-audit"
    tool.write_text(f"#!/bin/sh\n{answer}\n")
    tool.chmod(0o755)
    done = subprocess.run(
        ["sh", tmp_path / "scripts" / "audit.sh"],
        env={"PATH": "/usr/bin:/bin", "SECONDS_TO_ASK": "1"},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == status and said in done.stdout


def test_without_the_tool_it_is_skipped(tmp_path: Path):
    (tmp_path / "scripts").mkdir()
    shutil.copy(SCRIPT, tmp_path / "scripts")
    done = subprocess.run(["sh", tmp_path / "scripts" / "audit.sh"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "Skipped" in done.stdout
