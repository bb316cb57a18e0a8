"""Every test here has folders of its own for runs and for what is kept between runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from come.request import RunConfig
from come.runs import Run, create
from tests.tiny import tiny_folder

Create = Callable[..., Run]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_folder(tmp_path_factory.mktemp("model"), family="llama", layers=6)


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 50,000 characters, each a token of the tiny model."""
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(2500)))
    return path


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def asked(model: Path, text: Path) -> dict[str, Any]:
    """A small request: from 6 layers to 4."""
    return {
        "model": str(model),
        "text": str(text),
        "method": "come",
        "target_layers": 4,
        "n_tokens": 512,
        "seq_len": 64,
        "evaluation_tokens": 256,
    }


@pytest.fixture
def new_run(asked: dict[str, Any]) -> Create:
    def make(**changes: Any) -> Run:
        return create(RunConfig(**{**asked, **changes}))

    return make
