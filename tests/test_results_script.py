"""The table and the figures of the results, from a folder of runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from come.report import comparison
from scripts import results
from tests.app import synthetic

METHODS = ("come", "shortgpt", "random")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Three methods at two targets, and a run on another text."""
    folder = tmp_path / "runs"
    synthetic.sweep(folder, METHODS, (27, 24), measure=("ppl", "acc"))
    other = synthetic.results_of("come", 18, 0)
    other["evaluation"]["text_hash"] = "another"
    synthetic.write(folder, "9999", other, "come", 18)
    return folder


def test_the_table_has_a_line_for_each_method_and_target(runs: Path) -> None:
    chosen = results.largest(results.come.runs.list_runs(runs))
    assert comparison.count(chosen) == "6 runs"
    heads, _, original, *lines = results.table(chosen).splitlines()
    titles = [cell.strip() for cell in heads.strip("|").split("|")]
    assert titles[:4] == ["Method", "Layers", "Parameters (M)", "Perplexity"]
    assert any("Retention" in title for title in titles) and "KL to the original" in titles
    assert original.startswith("| original | 30 |") and len(lines) == 6
    assert all(" ± " in line for line in lines)


def test_a_figure_a_metric_that_was_measured(runs: Path) -> None:
    chosen = results.largest(results.come.runs.list_runs(runs))
    drawn = results.drawings(chosen)
    assert list(drawn) == ["perplexity", "retention"]
    figure, notes = drawn["perplexity"]
    assert {trace.name for trace in figure.data if trace.showlegend is not False} == {
        "original",
        "CoMe",
        "ShortGPT",
        "Random",
    } and notes


def test_a_folder_without_results_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["results", str(tmp_path)])
    with pytest.raises(SystemExit, match="holds no finished run"):
        results.main()


@pytest.mark.slow
@pytest.mark.browser
def test_the_figures_are_pictures_of_their_own(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["results", str(runs), "--out", str(tmp_path / "figures")])
    results.main()
    told = capsys.readouterr()
    assert "| ShortGPT | 24 |" in told.out and "another model or text" in told.err
    for name in results.DRAWN:
        picture = (tmp_path / "figures" / f"sweep-{name}.svg").read_text("utf-8")
        assert picture.startswith("<svg") and "ShortGPT" in picture
