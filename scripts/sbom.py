"""Writes build/sbom.json: what is installed for the product, as CycloneDX, with versions, licenses and where from.

Taken from .venv as it is, without what only tests and lint need (requirements-dev.lock).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / ".venv-tools" / "bin" / "cyclonedx-py"
OUT = ROOT / "build" / "sbom.json"


def main() -> None:
    """Take stock, leave out the tools, write."""
    command = [TOOL, "environment", "--pyproject", "pyproject.toml", "--output-reproducible", sys.executable]
    told = subprocess.run([*map(str, command)], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    stock = json.loads(told)
    dev = names((ROOT / "requirements-dev.lock").read_text("utf-8"))
    gone = {each["bom-ref"] for each in stock["components"] if normal(each["name"]) in dev}
    stock["components"] = [each for each in stock["components"] if each["bom-ref"] not in gone]
    stock["dependencies"] = [
        {**each, "dependsOn": [ref for ref in each.get("dependsOn", ()) if ref not in gone]}
        for each in stock.get("dependencies", ())
        if each["ref"] not in gone
    ]
    known = hashes()
    for each in stock["components"]:
        of_files = known.get((normal(each["name"]), each["version"].partition("+")[0]), [])
        # Which of a release's files was installed is not known: all that the lock allows are named.
        each.setdefault("properties", []).extend({"name": "lock:sha256", "value": digest} for digest in of_files)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(stock, indent=1, sort_keys=True) + "\n", "utf-8")
    print(f"{OUT.relative_to(ROOT)}: {len(stock['components'])} packages")


def hashes() -> dict[tuple[str, str], list[str]]:
    """The hashes that the locks allow, by a package's name and version."""
    found: dict[tuple[str, str], list[str]] = {}
    for lock in ROOT.glob("requirements*.lock"):
        for name, version, rest in re.findall(
            r"^([\w.-]+)==([^\s;]+)(.*(?:\n[ ].*)*)", lock.read_text("utf-8"), re.MULTILINE
        ):
            found[normal(name), version] = re.findall(r"sha256:(\w{64})", rest)
    return found


def names(lock: str) -> set[str]:
    """The packages of a lock file."""
    return {normal(name) for name in re.findall(r"^([\w.-]+)==", lock, re.MULTILINE)}


def normal(name: str) -> str:
    """One spelling for each package's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
