"""scripts/install.sh: goes on from any earlier attempt. A wheel made here plays the requirements."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # it makes real environments

SCRIPT = Path(__file__).parents[1] / "scripts" / "install.sh"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project, in a folder with a space in its name, that needs come_wheel 1.0 and bundles come_model 1.0."""
    project = tmp_path / "a project"
    (project / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, project / "scripts")
    for name in ("come_wheel", "come_model"):
        _write_wheel(tmp_path, name, "1.0")
    (project / "requirements.txt").write_text("come_wheel==1.0\n")
    (project / "requirements-bundled.txt").write_text("come_model==1.0\n")
    return project


def test_goes_on_from_every_earlier_attempt(project: Path, tmp_path: Path):
    first = _install(project)
    assert first.returncode == 0 and "first time takes some minutes" in first.stdout
    assert _installed(project) == {"come_wheel": "1.0", "come_model": "1.0"}

    assert _install(project).stdout == "", "nothing is missing, nothing is said"

    packages = next((project / ".venv" / "lib").glob("python3*")) / "site-packages"
    (packages / "come_wheel-1.0.dist-info" / "RECORD").unlink()  # as when pip is killed in the middle of a package
    (packages / "come_wheel.py").unlink()
    (packages / "~ome_wheel").mkdir()
    assert _install(project).returncode == 0
    assert (packages / "come_wheel.py").exists() and not (packages / "~ome_wheel").exists()

    _write_wheel(tmp_path, "come_wheel", "2.0")
    (project / "requirements.txt").write_text("come_wheel==2.0\n")
    assert _install(project).returncode == 0
    assert _installed(project)["come_wheel"] == "2.0"

    (project / "requirements.txt").write_text("come_wheel==3.0\n")  # there is none
    for _ in range(2):
        failed = _install(project)
        assert failed.returncode != 0 and "Run the same command again" in failed.stderr
    (project / "requirements.txt").write_text("come_wheel==1.0\n")
    assert _install(project).returncode == 0
    assert _installed(project)["come_wheel"] == "1.0"

    python = project / ".venv" / "bin" / "python"  # as when the interpreter that made it was removed
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert _install(project).returncode == 0
    assert _installed(project) == {"come_wheel": "1.0", "come_model": "1.0"}


def test_without_a_suitable_python_one_sentence_and_nothing_left(project: Path):
    failed = _install(project, PYTHON="python3.99 python2.7")
    assert failed.returncode == 1
    assert failed.stderr.count("\n") == 1 and "needs Python 3.11 or newer" in failed.stderr
    assert not (project / ".venv").exists()


def _install(project: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    places = {"PIP_ARGS": f"--no-index --find-links {project.parent}", "PIP_CONFIG_FILE": os.devnull}
    return subprocess.run(
        ["sh", str(project / "scripts" / "install.sh"), "app"],
        env={**os.environ, **places, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )


def _installed(project: Path) -> dict[str, str]:
    """Version by name of the two packages."""
    code = "from importlib.metadata import *; print(*[d.name + '=' + d.version for d in distributions()])"
    python = project / ".venv" / "bin" / "python"
    found = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    return dict(item.split("=") for item in found if item.startswith("come_"))


def _write_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
