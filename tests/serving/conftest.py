"""Every test of the resident process has a process of its own, which ends with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from come.serving.resident import client
from come.serving.whatif.question import Subject
from tests.tiny import tiny_folder


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 30,000 characters, each a token of the tiny models."""
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(1500)))
    return path


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    parent = tmp_path_factory.mktemp("models")
    return {family: tiny_folder(parent, family) for family in ("llama", "gpt2")}


@pytest.fixture(scope="session")
def subjects(folders: dict[str, Path], text: Path) -> dict[str, Subject]:
    return {
        family: Subject(
            model=str(folder),
            text=str(text),
            n_tokens=256,
            seq_len=32,
            measured_tokens=512,
            measured_seq_len=64,
        )
        for family, folder in folders.items()
    }


@pytest.fixture(scope="module")
def resident(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder for the process, which is started by whoever asks first."""
    patch = pytest.MonkeyPatch()
    patch.setenv("COME_HOME", str(tmp_path_factory.mktemp("home")))
    try:
        yield
    finally:
        client.stop()
        patch.undo()
