"""Which packages are installed, against those that this version was made with."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from come.doctor.check import Check

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 11)


def versions() -> Iterator[Check]:
    """Python, and every package of requirements.txt."""
    if sys.version_info < OLDEST:
        yield Check(
            "Python", "bad", platform.python_version(), "Use Python 3.11 or newer: make clean, then make install."
        )
    else:
        yield Check("Python", "ok", platform.python_version())
    wanted = _wanted()
    missing, others = [], []
    for requirement in wanted:
        try:
            there = version(requirement.name)
        except PackageNotFoundError:
            missing.append(requirement.name)
            continue
        if not requirement.specifier.contains(there, prereleases=True):
            others.append(f"{requirement.name} {there} instead of {str(requirement.specifier).lstrip('=')}")
    again = "Run `make install`, or install come-lab again."
    if missing:
        yield Check("packages", "bad", f"missing: {', '.join(missing)}", again)
    if others:
        yield Check("packages", "warn", "; ".join(others), f"{again} Results are compared with these versions only.")
    if not (missing or others):
        yield Check("packages", "ok", f"{len(wanted)} as required" if wanted else "not known: run from its sources")


def _wanted() -> list[Requirement]:
    """What this version needs: of a checkout its requirements.txt, else what the installed package says."""
    file = ROOT / "requirements.txt"
    if file.is_file():
        lines = [re.sub(r"#.*", "", line).strip() for line in file.read_text("utf-8").splitlines()]
    else:
        try:
            lines = [line for line in requires("come-lab") or [] if "extra ==" not in line]
        except PackageNotFoundError:
            return []
    found = []
    for line in filter(None, lines):
        try:
            found.append(Requirement(line))
        except InvalidRequirement:
            continue
    return [each for each in found if each.marker is None or each.marker.evaluate()]
