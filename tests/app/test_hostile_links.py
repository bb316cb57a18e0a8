"""Whatever a link or an upload holds, the pages of a plan and of a run are drawn, and say what they left out."""

from __future__ import annotations

import json
import os
import random
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.plan import request
from app.state.choice import from_params, to_params
from come.errors import ComeError
from tests.app.conftest import Lab
from tests.app.test_page_plan import Visit, chosen

VISITS = int(os.environ.get("COME_TEST_LINKS", "24"))  # of each page
HUGE = str(10**20)
NUMBERS = [
    "0",
    "1",
    "2",
    "5",
    "-1",
    "3.5",
    "nan",
    "inf",
    "-inf",
    "1e400",
    HUGE,
    f"-{HUGE}",
    "9" * 5000,
    "",
    " ",
    "x",
    "٣",
]
OPTIONS = [
    *(f"{name}:{value}" for name in ("span", "exponent", "floor", "passes", "batch_size") for value in NUMBERS),
    *(f"{name}:{value}" for name in ("refit", "no_repeat") for value in ("banana", "True", "1", "<a href=x>", "None")),
    *("sbi_tokens:last", "sbi_tokens:most", "windows:1-2", "ratios:1", "drop:3", "seed:1", f"seed:{HUGE}", "seed:x"),
    *("granularity:0", "search:grid", "search:best", "plus:False", "keep_last:9", "threshold:x", "metric:js", "lr:1"),
    *("exponent:100000", "exponent:1e308", "no_such:1", ":", "a", ":1", "span:2:3"),
]
WINDOWS = [
    "1-2",
    "1-2,3-4",
    "0-5",
    "0-200000000",
    "4-1",
    "2-2",
    f"0-{HUGE}",
    "1-2,2-3",
    "0-2,3-5",
    "",
    "x",
    "1",
    "1-2-3",
]
RATIOS = [
    "0.5-0.5",
    "0.57-0.43",
    "2-3",
    "nan-nan",
    "inf-0",
    "0.9-0.9",
    "0.2-0.3-0.5",
    "0.9-0.9-0.9",
    "1-0,0-1",
    "",
    "x",
]
VALUES: dict[str, list[str]] = {
    "model": ["smollm2-135m", "~alice/m", "x" * 300, "a/b", "", "[x](//y)"],
    "text": ["python-docs", "~alice/t.txt", "x" * 300, "", "nul\0"],
    "tokens": NUMBERS,
    "seq_len": [*NUMBERS, "8192"],
    "seed": NUMBERS,
    "method": ["come", "come-p", "random", "shortgpt", "reverse", "laco", "fisher", "nobody", "<b>", ""],
    "target": NUMBERS,
    "remove": [*NUMBERS, "0.2", "0.999", "-5", "100", "101"],
    "windows": WINDOWS,
    "ratios": RATIOS,
    "drop": ["0", "0,1,2,3,4,5", "99", HUGE, "-1", "nan", "x", ""],
    "options": OPTIONS,
    "run": ["x" * 300, "../..", "nul\0", "2026"],
}


def drawn(at: AppTest) -> AppTest:
    assert not at.exception, [each.message for each in at.exception]
    assert not [each.value for each in at.error if "fault of ours" in each.value]
    return at


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("plan", {"remove": "nan"}),
        ("plan", {"remove": "inf"}),
        ("plan", {"target": HUGE}),
        ("plan", {"windows": "1-2,3-4", "ratios": "0.5-0.5"}),
        ("plan", {"windows": "1-2", "ratios": "2-3"}),
        ("plan", {"windows": "1-2", "ratios": "nan-nan"}),
        ("plan", {"options": "span:abc"}),
        ("plan", {"options": "exponent:x"}),
        ("plan", {"options": "exponent:nan"}),
        ("plan", {"options": "exponent:-1"}),
        ("plan", {"options": "refit:banana"}),
        ("run", {"seed": HUGE}),
    ],
)
def test_what_cannot_be_shown_is_left_out_and_named(visit: Visit, page: str, query: dict[str, str]) -> None:
    at = drawn(visit(page, **query))
    name, value = list(query.items())[-1]
    assert any(f"{name}={value}" in each.value.replace("\\", "") for each in at.warning)


@pytest.mark.parametrize(
    "query",
    [
        {"windows": "0-2", "ratios": "0.9-0.9-0.9"},
        {"target": "999"},
        {"remove": "-3"},
        {"remove": "100"},
    ],
)
def test_what_makes_no_sense_is_shown_to_be_mended(visit: Visit, query: dict[str, str]) -> None:
    at = drawn(visit("plan", **query))
    assert at.error and not at.warning


def test_an_exponent_at_which_no_share_is_left_gives_all_to_one_layer(visit: Visit) -> None:
    at = drawn(visit("plan", windows="1-2", options="exponent:100000"))
    assert not at.error and at.dataframe[0].value["Ratio"][0] in ("100% + 0%", "0% + 100%")


def test_sequences_longer_than_the_usual_evaluation_can_be_run(visit: Visit) -> None:
    at = drawn(visit("run", seq_len="8192"))
    assert at.number_input(key="evaluation-tokens").value == 8192


@pytest.mark.parametrize("page", ["plan", "run"])
@pytest.mark.parametrize("part", range(2))
def test_no_link_is_a_fault(visit: Visit, page: str, part: int) -> None:
    luck = random.Random(f"{page} {part}")
    for _ in range(VISITS // 2):
        names = luck.sample(sorted(VALUES), luck.choice((1, 2, 3, 5)))
        query = {name: luck.choice(VALUES[name]) for name in names}
        if luck.random() < 0.5:  # where the rest of the page is drawn
            query = {name: value for name, value in query.items() if name not in ("model", "run")}
        if luck.random() < 0.5 and "windows" in query:
            query["ratios"] = luck.choice(RATIOS)
        at = visit(page, **query)
        assert not at.exception, (query, [each.message for each in at.exception])
        assert not [each for each in at.error if "fault of ours" in each.value], query
        choice, plan, _ = from_params({name: chosen(at, name) for name in VALUES if chosen(at, name)})
        assert from_params(to_params(choice, plan)) == (choice, plan, []), query


UPLOADS: list[Any] = [
    {"target_layers": 4, "options": {"span": "abc"}},
    {"target_layers": 4, "options": {"batch_size": [1]}},
    {"target_layers": 4, "options": {"refit": {"a": 1}}},
    {"target_layers": 4, "model": "~alice/m"},
    {"target_layers": 4, "seed": 10**20},
    {"target_layers": 4, "seq_len": 10**20},
    {"target_layers": 10**20},
    {"target_layers": 4, "method": "random", "options": {"seed": 10**20}},
    {"sparsity": float("nan")},
    {"sparsity": float("inf")},
    {"options": {"windows": [], "span": "abc"}},
    {"options": {"windows": [], "batch_size": 0}},
    {"options": {"windows": [[0, float("inf")]]}},
    {"options": {"windows": [[0, 10**12]]}},
    {"options": {"windows": [[0, 1], [2, 3]], "ratios": [[0.5, 0.5]]}},
    {"options": {"windows": [[0, 1]], "ratios": [[float("nan"), 1]]}},
    {"options": {"windows": [], "drop": [float("inf")]}},
    {"method": "random", "options": {"windows": []}},
]


def uploaded(at: AppTest, document: str) -> AppTest:
    return drawn(at.file_uploader(key="upload").upload("plan.json", document.encode(), "application/json").run())


def test_no_upload_is_a_fault(visit: Visit, lab: Lab) -> None:
    at = visit("plan", target="5")
    documents = [json.dumps({"model": str(lab.model), "text": str(lab.text)} | each) for each in UPLOADS]
    deep = [f'{{"options": {{"span": {"[" * depth}{"]" * depth}}}}}' for depth in (100, 400, 800, 950, 990, 100_000)]
    for document in [*documents, *deep, "[" * 100_000, "1" * 5000, "{", ""]:
        at = uploaded(at, document)
        assert at.error and chosen(at, "target") == "5", document[:200]


def test_a_document_is_refused_by_a_sentence_wherever_it_is_read() -> None:
    for document in ("[" * 100_000, '{"options": {"span": "abc"}}', '{"seed": 1000000000000000000000}'):
        with pytest.raises(ComeError):
            request.from_json(document)
