"""A small model to estimate for, and folders of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

import come
from come.models import Facts
from tests.tiny import tiny_folder


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))


@pytest.fixture(scope="module")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    return come.describe(tiny_folder(tmp_path_factory.mktemp("model"), layers=8))
