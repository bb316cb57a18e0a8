"""The report as one HTML file: its numbers are the runs', nothing in it is markup of others, it asks for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs

from app import example_runs
from come.errors import ComeError
from come.plan.plan import Base, Plan
from come.plan.steps import Concatenate
from come.report import comparison, tables, verdict
from come.report.card import card_of
from come.report.comparison import entries, run_name
from come.report.html import document, page, write
from come.report.html.comparison import COLUMNS
from come.report.html.elements import element
from come.report.metrics import number
from come.runs import Run
from tests.app import synthetic
from tests.runs.damage import damaged_contents

EMPTY = {"meta"}
LAYERS, CHANNELS, KV_GROUPS = 32, 11_008, 32  # of a model of 7 billion parameters


class Read(HTMLParser):
    """A document as a browser reads it: its elements, each with its attrs and all text in it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str], list[str]]] = []
        self._open: list[int] = []
        self.feed(text)
        assert not self._open, "every element ends"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}, []))
        if tag not in EMPTY:
            self._open.append(len(self.elements) - 1)

    def handle_endtag(self, tag: str) -> None:
        assert self.elements[self._open.pop()][0] == tag

    def handle_data(self, data: str) -> None:
        for place in self._open:
            self.elements[place][2].append(data)

    def texts(self, tag: str, kind: str = "") -> list[str]:
        return ["".join(text) for name, attrs, text in self.elements if name == tag and attrs.get("class", "") == kind]

    @property
    def said(self) -> str:
        """What a reader sees."""
        return "".join(self.texts("main"))

    @property
    def figures(self) -> dict[str, Any]:
        return json.loads(next("".join(text) for _, attrs, text in self.elements if attrs.get("id") == "figures"))


@pytest.fixture(scope="module")
def shipped() -> list[Run]:
    return [run for run in example_runs.runs() if run.config.kind == "compress"]


@pytest.fixture(scope="module")
def several(shipped: list[Run]) -> Read:
    return Read(document(shipped))


def rows(read: Read, kind: str) -> list[list[str]]:
    """The lines of the tables of a kind, as texts of their cells."""
    found: list[list[str]] = []
    of_this_kind = False
    for name, attrs, text in read.elements:
        if name == "table":
            of_this_kind = attrs.get("class") == kind
        elif of_this_kind and name == "tr":
            found.append([])
        elif of_this_kind and name in ("td", "th"):
            found[-1].append("".join(text))
    return found


# --- numbers ---------------------------------------------------------------------------------------------


def test_a_card_says_what_the_run_measured(shipped: list[Run]) -> None:
    run = shipped[0]
    results, read = run.results(), Read(document([run]))
    lines = {line[0]: line[1:] for line in rows(read, "card")}
    before, after = (results[side]["perplexity"] for side in ("original", "pruned"))
    assert lines["Perplexity"][0].startswith(f"{number(before)} ± ")
    assert lines["Perplexity"][1].startswith(f"{number(after)} ± ")
    assert lines["Layers"] == [str(results["original"]["layers"]), str(results["pruned"]["layers"]), ""]
    card = card_of(results)
    assert card is not None and len(lines) == len(card.rows) + 1
    for row in card.rows:
        assert lines[row.name] == [*(f"{cell.value} {cell.beside}".strip() for cell in row.cells), row.change]


def test_a_run_that_was_not_evaluated_has_a_card_that_says_so(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "1", synthetic.results_of("come", 24, 0, measure=()), "come", 24, evaluate=[])
    lines = {line[0]: line[1] for line in rows(Read(document([run])), "card")}
    assert lines["Perplexity"] == lines["Accuracy"] == lines["Speed"] == "not measured"


def test_a_recovered_run_is_told_before_and_after_that(tmp_path: Path) -> None:
    results = synthetic.results_of("come", 24, 0)
    pruned = results["pruned"]
    results = results | {"unrecovered": pruned, "pruned": pruned | {"perplexity": pruned["perplexity"] / 2}}
    run = synthetic.write(tmp_path, "1", results, "come", 24, recover=["refit"])
    lines = {line[0]: line[1:] for line in rows(Read(document([run])), "card")}
    assert lines[""] == ["Before", "Pruned", "Recovered", "Change"]
    assert lines["Perplexity"][1].startswith(number(pruned["perplexity"]))
    assert lines["Perplexity"][2].startswith(number(pruned["perplexity"] / 2))


def test_the_verdict_and_the_table_are_those_of_the_compare_page(shipped: list[Run], several: Read) -> None:
    items = entries(shipped)
    sides = [item.pruned for item in items if item.pruned], [item.original for item in items if item.original]
    for sentence in verdict.sentences(*sides):
        assert sentence in several.said
    heads, lines = tables.summary(*sides, COLUMNS)
    assert rows(several, "all") == [heads, *([cell for cell, _ in line] for line in lines)]


def test_the_best_comes_first_and_every_run_has_a_card(shipped: list[Run], several: Read) -> None:
    names = several.texts("a")
    assert sorted(names) == sorted(map(run_name, shipped)) and len(rows(several, "card")) == 8 * len(shipped)
    (items,) = comparison.groups(entries(shipped)).values()
    ranked = tables.rows([item.pruned for item in items if item.pruned], [])
    assert names == [line.name for line in ranked if not line.name.endswith(comparison.BEFORE)]


def test_the_charts_are_such_as_plotly_draws(several: Read) -> None:
    places = [attrs["id"] for name, attrs, _ in several.elements if name == "div" and attrs.get("class") == "chart"]
    assert list(several.figures) == places and len(places) > 12
    for figure in several.figures.values():
        go.Figure(figure)  # refuses what plotly does not know


def test_a_chart_holds_the_values_of_its_runs(shipped: list[Run], several: Read) -> None:
    drawn = {y for figure in several.figures.values() for trace in figure["data"] for y in trace["y"]}
    ceiling = 2_000  # what lies above is an arrow at the edge, too
    measured = {run.results()["pruned"]["perplexity"] for run in shipped}
    assert {value for value in measured if value < ceiling} <= drawn


def test_runs_on_another_text_are_a_comparison_of_their_own(tmp_path: Path) -> None:
    made = synthetic.sweep(tmp_path / "a", ["come", "sleb"], [24], measure=["ppl"])
    other = synthetic.sweep(tmp_path / "b", ["come", "sleb"], [24], measure=["ppl"])
    for run in other:
        results = run.results()
        results["evaluation"]["text_hash"], results["evaluation"]["text"] = "0", "another"
        (run.path / "results.json").write_text(json.dumps(results))
    read = Read(document([*made, *other]))
    assert len(read.texts("section", "compared")) == 2 and "4,096 tokens of another" in read.said


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


def test_plotly_is_in_it_once_and_it_is_well_below_the_bound(shipped: list[Run]) -> None:
    text = document(shipped)
    assert text.count(get_plotlyjs()) == 1 and len(text.encode()) < 5.5e6


def test_of_a_model_of_7_billion_parameters_no_channel_is_in_it(tmp_path: Path) -> None:
    run = of_7_billion(tmp_path)
    text = document([run] * 2)
    read = Read(text)
    assert len(text.encode()) < 6e6 and len(text) - len(get_plotlyjs()) < 100_000
    assert "32 layers became 24" in read.said
    assert max(len(trace["y"]) for figure in read.figures.values() for trace in figure["data"]) <= 64
    ribbons = [attrs["d"] for name, attrs, _ in read.elements if name == "path" and attrs.get("fill-opacity")]
    assert len(ribbons) == LAYERS


def of_7_billion(folder: Path) -> Run:
    """A run of that size: eight pairs merged, with all that it measured and decided."""
    whole = {"layers": LAYERS, "parameters": 6_738_415_616, "bytes": 4 * 6_738_415_616, "losses": [2.0] * 64}
    results = synthetic.results_of("come", 24, 0)
    influence = [0.01 * (layer + 1) for layer in range(LAYERS)]
    record = {"ratio": [0.5, 0.5], "block_influence": influence, "skip_influence": influence[:-1]}
    results |= {
        "original": results["original"] | whole,
        "pruned": results["pruned"] | whole | {"layers": 24, "parameters": 5_119_000_000},
        "history": [record | {"window": [30 - 2 * step, 31 - 2 * step]} for step in range(8)],
    }
    run = synthetic.write(folder, "1", results, "come", 24)
    base = Base(source="a-7b", fingerprint="0" * 64, model_type="llama", layers=LAYERS, parameters=whole["parameters"])
    kept = [list(range(0, CHANNELS, 2)), list(range(1, CHANNELS, 2))]
    groups = [list(range(KV_GROUPS // 2))] * 2
    steps = [
        Concatenate(window=(30 - 2 * step, 31 - 2 * step), ratio=[0.5, 0.5], kv_groups=groups, channels=kept)
        for step in range(8)
    ]
    Plan(base=base, dtype="float32", method="come", steps=steps).write(run.path / "plan.json")
    return run


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
