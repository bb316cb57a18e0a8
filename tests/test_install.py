"""scripts/install.sh: goes on from any earlier attempt. A wheel made here plays the requirements."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest

slow = pytest.mark.slow  # it makes real environments

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "install.sh"
ALL = {"come_wheel": "1.0", "come_model": "1.0", "come_build": "1.0", "torch": "2.0+cpu"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project, in a folder with a space in its name, that has come_wheel 1.0, come_model 1.0 and a torch locked."""
    project = tmp_path / "a project"
    (project / "scripts").mkdir(parents=True)
    shutil.copy(SCRIPT, project / "scripts")
    lines = [_write_wheel(tmp_path, name, "1.0") for name in ("come_wheel", "come_model")]
    (project / "requirements.lock").write_text("".join(lines))
    (project / "requirements-torch.lock").write_text(_write_wheel(tmp_path, "torch", "2.0+cpu"))
    (project / "requirements-build.lock").write_text(_write_wheel(tmp_path, "come_build", "1.0"))
    (project / "requirements-cuda.lock").write_text(_write_wheel(tmp_path, "come_cuda", "1.0"))
    return project


def _lock(project: Path, name: str, version: str, line: str) -> None:
    """Another version of a package in requirements.lock."""
    path = project / "requirements.lock"
    kept = [each for each in path.read_text().splitlines(True) if not each.startswith(f"{name}==")]
    path.write_text("".join([*kept, line or f"{name}=={version} --hash=sha256:{'0' * 64}\n"]))


@slow
def test_goes_on_from_every_earlier_attempt(project: Path, tmp_path: Path):
    first = _install(project)
    assert first.returncode == 0 and "first time takes some minutes" in first.stdout
    assert _installed(project) == ALL

    assert _install(project).stdout == "", "nothing is missing, nothing is said"

    packages = next((project / ".venv" / "lib").glob("python3*")) / "site-packages"
    (packages / "come_wheel-1.0.dist-info" / "RECORD").unlink()  # as when pip is killed in the middle of a package
    (packages / "come_wheel.py").unlink()
    (packages / "~ome_wheel").mkdir()
    assert _install(project).returncode == 0
    assert (packages / "come_wheel.py").exists() and not (packages / "~ome_wheel").exists()

    _lock(project, "come_wheel", "2.0", _write_wheel(tmp_path, "come_wheel", "2.0"))
    assert _install(project).returncode == 0
    assert _installed(project)["come_wheel"] == "2.0"

    _lock(project, "come_wheel", "3.0", "")  # there is none
    for _ in range(2):
        failed = _install(project)
        assert failed.returncode != 0 and "Run the same command again" in failed.stderr
    _lock(project, "come_wheel", "1.0", _write_wheel(tmp_path, "come_wheel", "1.0"))
    assert _install(project).returncode == 0
    assert _installed(project)["come_wheel"] == "1.0"

    python = project / ".venv" / "bin" / "python"  # as when the interpreter that made it was removed
    python.unlink()
    python.symlink_to("/nowhere/python3")
    assert _install(project).returncode == 0
    assert _installed(project) == ALL


@slow
def test_a_package_that_is_not_the_locked_one_is_not_installed(project: Path, tmp_path: Path):
    wheel = tmp_path / "come_wheel-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "a") as changed:
        changed.writestr("come_more.py", "")
    refused = _install(project)
    assert refused.returncode != 0 and "DO NOT MATCH THE HASHES" in refused.stderr
    assert "come_wheel" not in _installed(project)
    (project / "requirements.lock").write_text("come_wheel==1.0\n")  # a line without a hash
    refused = _install(project)
    assert refused.returncode != 0 and "come_wheel" not in _installed(project)


@slow
def test_a_torch_with_cuda_brings_what_it_needs(project: Path, tmp_path: Path):
    (project / "requirements-torch.lock").write_text(_write_wheel(tmp_path, "torch", "2.0"))
    (tmp_path / "torch-2.0+cpu-py3-none-any.whl").unlink()
    assert _install(project).returncode == 0
    assert _installed(project) == {**ALL, "torch": "2.0", "come_cuda": "1.0"}


def test_every_lock_names_one_version_and_hashes_and_no_place():
    for lock in sorted(ROOT.glob("requirements*.lock")):
        text = lock.read_text("utf-8")
        assert "://" not in text and "--index" not in text and "--find-links" not in text, lock
        entries = re.findall(r"^(?!#)(\S+?)(==\S+)(.*(?:\n[ ].*)*)\n", text, re.MULTILINE)
        assert entries and all("--hash=sha256:" in rest for _, _, rest in entries), lock
        assert len(re.findall(r"^[^#\s]", text, re.MULTILINE)) == len(entries), lock


@pytest.mark.parametrize("name", ["app", "build", "dev", "tools"])
def test_the_locks_are_those_of_the_requirements(name: str):
    given = ROOT / ("requirements.txt" if name == "app" else f"requirements-{name}.txt")
    parts = ["", "-torch", "-cuda"] if name == "app" else [f"-{name}"]
    locked = "".join((ROOT / f"requirements{part}.lock").read_text("utf-8") for part in parts).lower()
    for line in given.read_text("utf-8").splitlines():
        if wanted := re.match(r"([\w-]+==[\w.]+)", line):
            assert re.search(rf"^{re.escape(wanted[1].lower())}[ ;]", locked, re.MULTILINE), line


@slow
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
    return dict(item.split("=") for item in found if item.startswith(("come_", "torch")))


def _write_wheel(folder: Path, name: str, version: str) -> str:
    """A wheel; returns its line of a lock file."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", "")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return f"{name}=={version.partition('+')[0]} --hash=sha256:{sha256(path.read_bytes()).hexdigest()}\n"
