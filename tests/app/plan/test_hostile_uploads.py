"""Plans that are uploaded and hold what no page wrote: each ends in a choice that can be shown, or in a sentence."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import formats
from app.plan.uploaded import LONGEST
from app.state import link, request
from app.state.choice import Choice, Draft
from come.errors import ComeError

SECONDS = 20  # a busy machine's; attacks took minutes

GOOD = {
    "model": "smollm2-135m",
    "text": "python-docs",
    "n_tokens": 4096,
    "seq_len": 512,
    "seed": 0,
    "bos": "auto",
    "method": "come",
    "target_layers": None,
    "sparsity": None,
    "options": {"windows": [[4, 5]], "ratios": [[0.5, 0.5]]},
}
VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "negative": -1,
    "huge": 10**30,
    "float": 1e308,
    "nan": float("nan"),
    "infinite": float("inf"),
    "empty": "",
    "nul": "a\x00b",
    "half a character": "\ud800",
    "long": "x" * 500_000,
    "path": "../../../etc/passwd",
    "markup": "<script>alert(1)</script> :red[x] $$\\infty$$",
    "list": [],
    "lists": [[[[[]]]]],
    "many": list(range(100_000)),
    "pairs": [[first, first + 1] for first in range(0, 40_000, 2)],
    "wide": [[0, 10**15]],
    "backwards": [[9, 1]],
    "object": {},
    "objects": {"a": {"b": {"c": {}}}},
    "many keys": {f"key {number}": number for number in range(20_000)},
    "windows": {"windows": [[0, 10**15]], "ratios": [[0.5]], "drop": [10**15]},
    "nan options": {"exponent": float("nan"), "floor": float("inf"), "batch_size": -1, "seed": 10**40},
    "strange options": {"windows": "x", "ratios": {"a": 1}, "drop": [None]},
}
WHOLE = {
    "nothing": b"",
    "no text": b"\xff\xfe\x00\xd8",
    "null": b"null",
    "a number": b"1e999",
    "deep": b"[" * 200_000,
    "deep objects": b'{"a":' * 100_000,
    "zeros": b"\x00" * 100_000,
    "a long number": b'{"seed": ' + b"9" * 500_000 + b"}",
    "keys twice": b'{"model": "a", "model": "b"}',
    "a plan": b'{"steps": []}',
    "utf-16": json.dumps(GOOD).encode("utf-16"),
    "half": json.dumps(GOOD).encode()[:-20],
}


def read(document: bytes) -> None:
    """A plan is read as the page does; what comes of it can be shown and put into a link."""
    began = time.monotonic()
    try:
        choice, draft = request.from_json(document)
        assert isinstance(choice, Choice) and isinstance(draft, Draft)
        link.to_params(choice, draft)
    except ComeError as error:
        assert formats.sentence(str(error)).encode("utf-8")
    assert time.monotonic() - began < SECONDS


@pytest.mark.parametrize("field", GOOD)
@pytest.mark.parametrize("name", VALUES)
def test_a_field_with_a_hostile_value_ends_in_a_sentence(field: str, name: str) -> None:
    read(json.dumps(GOOD | {field: VALUES[name]}).encode())


@pytest.mark.parametrize("name", WHOLE)
def test_a_document_that_is_none_ends_in_a_sentence(name: str) -> None:
    read(WHOLE[name])


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.parametrize("demo", ["", "1"])
@pytest.mark.parametrize("name", [*VALUES, *WHOLE, "too large"])
def test_the_plan_page_takes_it_or_says_why_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path, name: str, demo: str
) -> None:
    from tests.app.conftest import the_app

    monkeypatch.setenv("COME_DEMO", demo)
    monkeypatch.setenv("COME_RUNS", str(tmp_path))
    documents = (
        [json.dumps(GOOD | {field: VALUES[name]}).encode() for field in ("model", "options")] if name in VALUES else []
    )
    documents += [WHOLE[name]] if name in WHOLE else []
    at: AppTest = the_app()
    at.switch_page("../pages/plan.py").run()
    for document in documents or [b" " * (LONGEST + 1)]:
        at.file_uploader(key="upload").upload("plan.json", document, "application/json").run()
        assert not at.exception and not [each.value for each in at.error if "fault of ours" in each.value]
        if name == "too large":
            assert any("bytes are more than is allowed" in each.value for each in at.error)
