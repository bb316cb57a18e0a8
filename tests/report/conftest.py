"""The shipped runs, and one report of all of them."""

from __future__ import annotations

import pytest

from app import example_runs
from come.report.html import document
from come.runs import Run
from tests.report.documents import Read


@pytest.fixture(scope="module")
def shipped() -> list[Run]:
    return [run for run in example_runs.runs() if run.config.kind == "compress"]


@pytest.fixture(scope="module")
def several(shipped: list[Run]) -> Read:
    return Read(document(shipped))
