"""The compare page: the verdict, which runs may stand beside each other, the figure, the table."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app import comparison, example
from app.comparison import Result
from app.figures import compare as figures
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]
TITLES = {"come": "CoMe", "shortgpt": "ShortGPT", "random": "Random"}


def result(method: str, layers: int, perplexity: float, stderr: float | None = None) -> Result:
    return Result(
        f"run-{method}-{layers}", method, method, layers, layers * 10**6, layers * 4 * 10**6, perplexity, stderr
    )


ORIGINAL = result("original", 30, 40.5)
THREE = [result("come", 27, 59.6), result("shortgpt", 27, 55.6), result("random", 27, 90.0)]


def test_the_verdict_is_computed_from_the_runs() -> None:
    assert comparison.verdict(THREE, ORIGINAL, TITLES) == (
        "At 27 layers CoMe has perplexity 59.6, ShortGPT 55.6, Random 90.0; the original has 40.5. "
        "On this text removal is better."
    )


@pytest.mark.parametrize(
    ("come_perplexity", "stderr", "words"),
    [
        (50.0, None, "On this text merging is better than removal."),
        (55.62, None, "On this text ShortGPT and CoMe come out even."),
        (54.0, 3.0, "On this text merging is better than removal, though the error bars overlap."),
    ],
)
def test_the_verdict_says_what_is_true(come_perplexity: float, stderr: float | None, words: str) -> None:
    runs = [result("come", 27, come_perplexity, stderr), result("shortgpt", 27, 55.6, stderr)]
    assert comparison.verdict(runs, ORIGINAL, TITLES).endswith(words)


def test_the_verdict_speaks_of_the_size_with_most_methods() -> None:
    words = comparison.verdict([*THREE, result("come", 29, 44.0)], ORIGINAL, TITLES)
    assert words.startswith("At 27 layers")
    alone = comparison.verdict([result("come", 29, 44.0)], ORIGINAL, TITLES)
    assert "1.1 times the original's" in alone
    assert comparison.verdict([], None, TITLES) == "No finished run to compare yet."


def test_the_figure_starts_every_line_at_the_original() -> None:
    figure = figures.perplexity_figure([*THREE, result("come", 24, 114.0, 4.0)], ORIGINAL, TITLES)
    lines = [trace for trace in figure.data if trace.mode == "lines"]
    assert len(lines) == 3
    assert all(trace.x[0] == 30 and trace.y[0] == 40.5 for trace in lines)
    markers = {trace.name: trace for trace in figure.data if trace.mode == "markers"}
    assert set(markers) == {"CoMe", "ShortGPT", "Random", "original"}
    assert len({trace.marker.symbol for trace in markers.values()}) == 4
    assert markers["CoMe"].error_y.array == (0, 4.0)
    assert figure.layout.xaxis.range[0] > figure.layout.xaxis.range[1]
    assert "perplexity" in figure.layout.yaxis.title.text and "layers" in figure.layout.xaxis.title.text


def test_far_apart_perplexities_are_shown_on_a_log_axis() -> None:
    figure = figures.perplexity_figure([*THREE, result("random", 24, 9000.0)], ORIGINAL, TITLES, "parameters")
    assert figure.layout.yaxis.type == "log"
    assert figure.layout.xaxis.title.text.startswith("parameters")
    assert figures.perplexity_figure([], None, TITLES).layout.yaxis.type == "linear"


def test_the_figure_title_says_the_finding() -> None:
    assert figures.figure_title(THREE, TITLES) == "ShortGPT loses least at 27 layers"
    both = [*THREE, result("come", 24, 80.0), result("shortgpt", 24, 87.8)]
    assert figures.figure_title(both, TITLES) == "Which method loses least depends on the size"
    assert figures.figure_title([], TITLES) == "No pruned model to show yet"


def test_numbers_are_short() -> None:
    assert [figures.number(value) for value in (8.03, 193.4, 12345.6, 3.2e7)] == ["8.0", "193", "12,346", "3.2e+07"]


def test_the_table_as_csv_holds_every_run() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison.to_csv(THREE, ORIGINAL))))
    assert [row["method"] for row in rows] == ["original", "come", "shortgpt", "random"]
    assert float(rows[1]["perplexity"]) == 59.6 and rows[1]["perplexity_stderr"] == ""


# --- the page --------------------------------------------------------------------------------------


def test_the_page_compares_the_finished_runs(visit: Visit, lab: Lab) -> None:
    at = visit("compare")
    assert not at.exception and not at.error
    assert any(each.value.startswith("### At 4 layers CoMe has perplexity") for each in at.markdown)
    table = at.dataframe[0].value
    assert set(table["Method"]) == {"original", "CoMe", "ShortGPT"}
    for run in come.runs.list_runs(lab.runs):
        if run.config.kind == "compress":
            perplexity = run.results()["pruned"]["perplexity"]
            assert any(math.isclose(perplexity, value) for value in table["Perplexity"])


def test_runs_can_be_left_out(visit: Visit) -> None:
    at = visit("compare")
    choice = at.multiselect[0]
    choice.set_value(choice.value[:1]).run()
    assert not at.exception
    assert len(at.dataframe[0].value) == 2


def test_runs_that_cannot_be_compared_are_listed_with_the_reason(visit: Visit, lab: Lab) -> None:
    lab.create(target_layers=3)
    elsewhere = lab.create(target_layers=3, name="elsewhere", evaluation_tokens=256)
    elsewhere.update(status="done")
    some = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "shortgpt" and run.plan())
    results = some.results()
    results["evaluation"]["n_tokens"] = 256
    (elsewhere.path / "results.json").write_text(json.dumps(results))
    at = visit("compare")
    assert not at.exception
    at.selectbox(key="comparison").set_value(1).run()
    assert not at.exception
    reasons = " ".join(each.value for each in at.markdown)
    assert "waits for its turn" in reasons and "another model or text" in reasons
    assert list(at.dataframe[0].value["Method"]) in (["original", "ShortGPT"], ["original", "CoMe", "ShortGPT"])


def test_without_runs_the_example_is_shown_or_the_way_to_a_first_run(visit: Visit, lab: Lab, monkeypatch) -> None:
    shipped = lab.runs.rename(lab.runs.with_name("shipped"))
    monkeypatch.setattr(example, "FOLDER", shipped)
    at = visit("compare")
    assert not at.exception
    assert any("Shipped example" in each.value for each in at.caption)
    assert len(at.dataframe[0].value) == 3
    monkeypatch.setattr(example, "FOLDER", lab.runs.with_name("nowhere"))
    at = visit("compare")
    assert not at.exception
    assert any("No finished run yet" in each.value for each in at.markdown)
