"""The report as one HTML file: its numbers are the runs', nothing in it is markup of others, it asks for nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
import scipy.stats
from plotly.offline import get_plotlyjs

from come.report import comparison, tables, verdict
from come.report.card import card_of
from come.report.comparison import entries, run_name
from come.report.html import document
from come.report.html.comparison import COLUMNS
from come.report.metrics import number
from come.runs import Run
from tests.app import synthetic
from tests.report.documents import LAYERS, Read, of_7_billion, rows


def test_a_card_says_what_the_run_measured(shipped: list[Run]) -> None:
    run = next(run for run in shipped if not run.config.recover)
    results, read = run.results(), Read(document([run]))
    lines = {line[0]: line[1:] for line in rows(read, "card")}
    before, after = (results[side]["perplexity"] for side in ("original", "pruned"))
    assert lines["Perplexity"][0].startswith(f"{number(before)} ± ")
    assert lines["Perplexity"][1].startswith(f"{number(after)} ± ")
    assert lines["Layers"] == [str(results["original"]["layers"]), str(results["pruned"]["layers"]), ""]
    card = card_of(results)
    assert card is not None and len(lines) == len(card.rows) + 1
    for row in card.rows:
        assert lines[row.name] == [*(f"{cell.value} {cell.beside}".strip() for cell in (*row.cells, row.change))]


def test_a_change_of_perplexity_has_its_interval_sequence_by_sequence(shipped: list[Run]) -> None:
    results = next(run for run in shipped if not run.config.recover).results()
    row = next(row for row in (card_of(results) or pytest.fail()).rows if row.name == "Perplexity")
    each = np.subtract(results["pruned"]["losses"], results["original"]["losses"])
    low, high = scipy.stats.t.interval(0.95, len(each) - 1, each.mean(), scipy.stats.sem(each))
    assert row.change.beside == f"({np.exp(low):.2f}–{np.exp(high):.2f})"
    results["pruned"] = {**results["pruned"], "losses": results["pruned"]["losses"][1:]}
    row = next(row for row in (card_of(results) or pytest.fail()).rows if row.name == "Perplexity")
    assert row.change.value and not row.change.beside, "not on the same sequences"


def test_a_run_that_was_not_evaluated_has_a_card_that_says_so(tmp_path: Path) -> None:
    run = synthetic.write(tmp_path, "1", synthetic.results_of("come", 24, 0, measure=()), "come", 24, evaluate=[])
    lines = {line[0]: line[1] for line in rows(Read(document([run])), "card")}
    assert lines["Perplexity, Accuracy, Speed"] == "not measured"


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
    lines = sum(1 + len(card.rows) for run in shipped if (card := card_of(run.results())))
    assert sorted(names) == sorted(map(run_name, shipped)) and len(rows(several, "card")) == lines > 6 * len(shipped)
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
