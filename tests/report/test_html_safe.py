"""What a report holds of others is text, it tells no path, asks for nothing, and no damaged file ends it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import example_runs
from come.errors import ComeError
from come.report.comparison import run_name
from come.report.html import document, page, write
from come.report.html.elements import element
from come.runs import Run
from tests.app import synthetic
from tests.report.documents import Read, of_7_billion, rows
from tests.runs.damage import damaged_contents

# --- what it is made of ----------------------------------------------------------------------------------


def test_it_asks_for_nothing(several: Read, shipped: list[Run]) -> None:
    for name, attrs, text in several.elements:
        assert not {"src", "srcset", "action", "data", "background", "ping"} & set(attrs)
        assert attrs.get("href", "#").startswith("#"), name
        assert not [attribute for attribute in attrs if attribute.startswith("on")]
        if name == "style":
            assert not re.search(r"url\(|@import|//", "".join(text))
    assert {"link", "iframe", "img", "object", "base", "form"}.isdisjoint(name for name, *_ in several.elements)


def test_its_policy_lets_in_its_own_scripts_and_no_network(several: Read) -> None:
    policy = next(attrs["content"] for _, attrs, _ in several.elements if attrs.get("http-equiv"))
    told = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert told["default-src"] == "'none'" and "connect-src" not in told and told["img-src"] == "data: blob:"
    scripts = [text for name, attrs, text in several.elements if name == "script" and "type" not in attrs]
    digests = [base64.b64encode(hashlib.sha256("".join(text).encode()).digest()).decode() for text in scripts]
    assert told["script-src"].split() == [f"'sha256-{digest}'" for digest in digests] and len(digests) == 2


# --- what others gave ------------------------------------------------------------------------------------

HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(1)>'


def test_names_of_others_are_text(tmp_path: Path) -> None:
    model, text = tmp_path / "<script>alert('model')<" / "script>&amp;", tmp_path / "<b>text<b>.txt"
    made = []
    for number_, method in enumerate(("come", "sleb")):
        results = synthetic.results_of(method, 24, 0)
        results["evaluation"]["text"] = results["calibration"] = HOSTILE
        results |= {"device": HOSTILE, "machine": HOSTILE, "versions": {HOSTILE: HOSTILE}}
        results["calibration"] = {"text": HOSTILE, "form": HOSTILE}
        asked = {"name": HOSTILE, "model": str(model), "text": str(text), "recover_text": str(text)}
        made.append(synthetic.write(tmp_path, str(number_), results, method, 24, **asked))
    read = Read(document(made))
    plain = Read(document([run for run in example_runs.runs() if run.config.target_layers == 24][:2]))
    assert {name for name, *_ in read.elements} <= {name for name, *_ in plain.elements} | {"path"}
    assert sum(name == "script" for name, *_ in read.elements) == 3
    assert not [attrs for _, attrs, _ in read.elements if set(attrs) & {"onerror", "src"}]
    assert HOSTILE in read.said and "script>&amp;" in read.said and "<b>text<b>.txt" in read.said
    for figure in read.figures.values():  # plotly reads HTML in what it is told
        assert "<script" not in json.dumps(figure) and "<img" not in json.dumps(figure)


MARKUP = st.text(st.sampled_from("<>&\"'/=! \n\0scriptlt;"))


@settings(max_examples=100)
@given(MARKUP, MARKUP)
def test_an_element_says_what_it_is_given(text: str, value: str) -> None:
    read = Read(element("p", text, class_=value))
    ((name, attrs, said),) = read.elements
    clean = {code: "\ufffd" for code in range(32) if chr(code) not in "\t\n"}
    assert name == "p" and "".join(said) == text.translate(clean) and attrs["class"] == value.translate(clean)


def test_half_a_character_is_told_as_that() -> None:
    assert element("p", "half \ud800 of one", id="\udfff") == '<p id="?">half ? of one</p>'


def test_no_path_of_the_machine_is_in_it(tmp_path: Path) -> None:
    made = []
    for number_, method in enumerate(("come", "sleb")):
        asked = {"model": f"{tmp_path}/my models/a llama", "text": f"{tmp_path}/notes.jsonl:body"}
        asked |= {"evaluation_text": f"{tmp_path}/held out.txt", "tasks": [f"{tmp_path}/quiz.jsonl"]}
        asked |= {"evaluate": ["ppl", "acc"]}
        results = synthetic.results_of(method, 24, 0)
        made.append(synthetic.write(tmp_path / "runs", str(number_), results, method, 24, **asked))
    broken = synthetic.write(tmp_path / "runs", "9", {}, "come", 24)
    (broken.path / "results.json").write_text("{")
    failed = synthetic.write(tmp_path / "runs", "8", {}, "come", 24, status="failed", model=f"{tmp_path}/my models/x")
    failed.update(error=f"{tmp_path}/my models/x is no model.")
    text = document([*made, broken, failed])
    assert str(tmp_path) not in text and "my models" not in text and tmp_path.name not in text
    said = Read(text).said
    assert "a llama" in said and "--text notes.jsonl:body" in said and "held out.txt" in said and "quiz" in said


# --- what is left out ------------------------------------------------------------------------------------


def left(tmp_path: Path) -> Iterator[tuple[Run, str]]:
    """Runs that cannot be reported, each with what is said of it."""
    results = synthetic.results_of("come", 24, 0)
    for status in ("failed", "cancelled", "interrupted"):
        yield synthetic.write(tmp_path, status, results, "come", 24, status=status), status
    yield synthetic.write(tmp_path, "none", {}, "come", 24), "it holds no result"
    analysis = synthetic.write(tmp_path, "analysis", {}, "come", 24, kind="analyze")
    yield analysis, "it measures a model and prunes none"
    for name in ("config.json", "results.json", "plan.json"):
        run = synthetic.write(tmp_path, f"bad-{name}", results, "come", 24)
        (run.path / name).write_text('{"')
        yield run, f"unreadable: …/{run.id}/{name}" if name != "plan.json" else "unreadable: "


def test_what_cannot_be_reported_is_left_out_with_a_sentence(tmp_path: Path) -> None:
    good = synthetic.write(tmp_path, "good", synthetic.results_of("come", 24, 0), "come", 24)
    found = list(left(tmp_path))
    read = Read(document([good, *(run for run, _ in found)]))
    (sentences,) = read.texts("div", "left")
    assert len(rows(read, "card")) > 1 and read.texts("h1") == [run_name(good)]
    assert sentences.count(" is left out: ") == len(found)
    for _, reason in found:
        assert reason.removeprefix("unreadable: …/").split("/")[0] in sentences


def test_nothing_to_report_is_one_sentence(tmp_path: Path) -> None:
    for runs in ([], [run for run, _ in left(tmp_path)]):
        with pytest.raises(ComeError, match="There is nothing to report") as caught:
            document(runs)
        assert str(tmp_path) not in str(caught.value) and "\n" not in str(caught.value)


def test_nothing_is_overwritten_and_folders_are_made(tmp_path: Path, shipped: list[Run]) -> None:
    path = write(shipped[:1], tmp_path / "new" / "report.html")
    before = path.read_bytes()
    assert before.startswith(b"<!DOCTYPE html>") and [each.name for each in path.parent.iterdir()] == ["report.html"]
    with pytest.raises(ComeError, match="is there already"):
        write(shipped[1:2], path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["config.json", "state.json", "results.json", "plan.json", "events.jsonl"])
def test_however_a_file_is_damaged_there_is_a_report_or_a_sentence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page, "_scripts", lambda: ("", ""))  # five megabytes that nothing of this is about
    run = of_7_billion(tmp_path)
    plan = run.plan()
    assert plan is not None
    short = [step.model_copy(update={"channels": [[0], [1]]}) for step in plan.steps]
    plan.model_copy(update={"steps": short}).write(run.path / "plan.json")  # quick to read
    event = {
        "time": 1.0,
        "stage": "recover",
        "step": 1,
        "of": 2,
        "message": "",
        "values": {"step": 1, "train_loss": 2.0},
    }
    (run.path / "events.jsonl").write_text(f"{json.dumps(event)}\n")
    good = synthetic.write(tmp_path, "good", synthetic.results_of("come", 24, 0), "come", 24)
    whole = (run.path / name).read_bytes()
    for kind, content in damaged_contents(whole, every=3):
        (run.path / name).write_bytes(content)
        text = document([run, good])
        assert good.id in text and str(tmp_path) not in text, kind
        Read(text)
