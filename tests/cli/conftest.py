"""A tiny model, a text, and folders of each test's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import tiny_folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("model"), family="llama", layers=6))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(2500)))
    return str(path)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
