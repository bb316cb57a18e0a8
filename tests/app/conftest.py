"""A small laboratory for the pages: a tiny model, a text, and finished runs on them, made by the real library."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import come.runs
from app.channels import card
from app.components import poll, window_costs
from app.server import downloads
from come.request import RunConfig
from come.runs import Run
from tests.tiny import tiny_folder

ROOT = Path(__file__).parents[2]


def the_app() -> AppTest:
    """The app, not yet run; the time that a run may take judges nothing, it ends a hanging test."""
    return AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=240)


@dataclass(frozen=True)
class Lab:
    """Where the tiny model, its text and its runs lie, and the fields that requests on them share."""

    model: Path
    text: Path
    runs: Path

    @property
    def fields(self) -> dict[str, object]:
        return {
            "model": str(self.model),
            "text": str(self.text),
            "n_tokens": 1024,
            "seq_len": 64,
            "evaluation_tokens": 512,
        }

    def create(self, **fields: object) -> Run:
        return come.runs.create(RunConfig.model_validate(self.fields | fields), self.runs)


@pytest.fixture(scope="session")
def finished_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """An analysis, a CoMe run and a ShortGPT run, executed once for all tests of the pages."""
    folder = tmp_path_factory.mktemp("lab")
    text = folder / "lines.txt"
    text.write_text("\n".join(f"Line {i}: {i * i} brown foxes jump over {i % 7} lazy dogs." for i in range(400)))
    lab = Lab(tiny_folder(folder), text, folder / "runs")
    with mock.patch.dict(os.environ, {"COME_HOME": str(folder / "home"), "COME_RUNS": str(lab.runs)}):
        come.runs.execute(lab.create(kind="analyze"))
        for method in ("come", "shortgpt"):
            come.runs.execute(lab.create(method=method, target_layers=4, keep_model=method == "come"))
        yield lab


@pytest.fixture
def lab(finished_lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A laboratory of one's own: the finished runs, copied."""
    shutil.copytree(finished_lab.runs, tmp_path / "runs")
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return Lab(finished_lab.model, finished_lab.text, tmp_path / "runs")


@pytest.fixture(autouse=True)
def not_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages are drawn as without ``come app``, also after a test that imported ``app.serve``."""
    monkeypatch.setattr(downloads, "served", False)


@pytest.fixture
def visit(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """Opens a page as the first of a visit: ``visit("plan", target="4")``; parameters are those of the URL."""
    monkeypatch.setattr(poll, "LONGEST", 0.0)  # else a page that follows runs would not end
    monkeypatch.setattr(window_costs, "LARGE", 0)  # of no model are windows measured unless that is asked for
    monkeypatch.setattr(card, "ITSELF", 0)  # no model is loaded unless that is asked for

    def open_page(page: str, **params: str) -> AppTest:
        st.cache_data.clear()
        st.cache_resource.clear()
        at = the_app()
        shared = {"model": str(lab.model), "text": str(lab.text), "tokens": "1024", "seq_len": "64"}
        for name, value in (shared | params).items():
            at.query_params[name] = value
        return at.switch_page(f"../pages/{page}.py").run()

    return open_page
