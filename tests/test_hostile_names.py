"""A name that can be no path is an unknown name: whoever opens a link with one gets a sentence on every page."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.state.choice import Choice
from come.errors import ComeError
from come.evaluate.tasks.questions import read_questions
from come.models import describe
from come.models.facts import license_of
from come.request import RunConfig, anchored, anchored_path, checked
from come.serving.limits import DEMO
from come.source_fingerprint import source_fingerprint
from come.text import describe_text, read
from tests.app.conftest import finished_lab, lab, visit  # noqa: F401 (fixtures)

NAMES = [
    "~alice/x",
    "~alice",
    "x" * 300,
    "x/" * 3000,
    f"{'x' * 300}.txt",
    "nul\0byte",
    "/nul\0byte.jsonl",
    "~nobody\0/x",
]
PAGES = ["home", "model", "plan", "run", "layers", "channels", "inspect", "compare", "learn", "playground"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_such_a_name_stays_and_is_refused_where_it_is_read(name: str) -> None:
    assert anchored_path(name) == name
    asked = RunConfig(model=name, text=name, evaluation_text=name, recover_text=name, tasks=[name], evaluate=["acc"])
    assert anchored(asked) == asked
    for refuse in (describe, read, describe_text, read_questions, lambda _: checked(asked)):
        with pytest.raises(ComeError):
            refuse(name)
    assert license_of(name) == "" and source_fingerprint(name) == ""
    offered = asked.model_copy(update={"model": "smollm2-135m", "text": "python-docs"})
    for one in (asked, offered, offered.model_copy(update={"evaluation_text": None, "recover_text": None})):
        with pytest.raises(ComeError):
            DEMO.check_run(one)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_says_so_and_the_next_visit_is_fine(visit: Callable[..., AppTest], page: str) -> None:  # noqa: F811
    for name in NAMES[:5]:
        for named in ({"model": name}, {"text": name}):
            at = visit(page, **named)
            assert not at.exception, (name[:20], at.exception)
            assert not [each for each in at.error if "fault of ours" in each.value]
    at = visit(page, **{"model": Choice().model})
    assert not at.exception and not at.error
