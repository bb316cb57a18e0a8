"""The wheel, installed somewhere else: `come app` serves the same page from any folder."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import ROOT, Server, fetched, serve

if TYPE_CHECKING:
    from playwright.sync_api import Page

PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment of its own with the wheel in it; what the wheel needs is looked for where the tests' is."""
    folder = tmp_path_factory.mktemp("installed")
    source, made, environment = folder / "source", folder / "wheels", folder / "environment"
    for name in ("app", "come", "pages"):  # a copy, for a build leaves a folder behind, and would take what lies there
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "pyproject.toml", "requirements.txt", "setup.py"):
        shutil.copy(ROOT / name, source)
    _succeed(*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", made, source)
    venv.create(environment, symlinks=True)
    packages = _packages(environment)
    (packages / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (wheel,) = made.glob("come_lab-*.whl")
    _succeed(
        *PIP, "--python", environment / "bin" / "python", "install", "--no-deps", "--no-index", "--no-compile", wheel
    )
    return environment


@pytest.fixture(scope="module")
def server(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`come app` of that environment, started in an empty folder, which has its runs below it."""
    folder = tmp_path_factory.mktemp("anywhere")
    environment = {"PYTHONPATH": "", "COME_RUNS": ""}
    with serve(folder, environment, come=[str(installed / "bin" / "come")], started_in=folder) as server:
        yield server


def test_nothing_but_come_is_installed(installed: Path) -> None:
    own = {path.name for path in _packages(installed).iterdir()}
    assert {name for name in own if not name.endswith((".dist-info", ".pth"))} == {"come"}


def test_it_answers(server: Server) -> None:
    assert "<title>CoMe Lab</title>" in fetched(f"{server.url}/home")


@pytest.mark.browser
def test_the_page_is_the_same(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/home")
    page.get_by_role("heading", level=1).wait_for()
    sidebar = page.get_by_test_id("stSidebar")
    assert sidebar.evaluate("each => getComputedStyle(each).backgroundColor") == "rgb(248, 249, 251)"  # our theme's
    sidebar.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_role("heading", level=1, name="Compare").wait_for()
    page.locator(".js-plotly-plot .main-svg").first.wait_for()  # drawn from the shipped example
    assert not page.get_by_text("fault of ours").is_visible()


def _packages(environment: Path) -> Path:
    return Path(sysconfig.get_path("purelib", vars={"base": str(environment), "platbase": str(environment)}))


def _succeed(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
