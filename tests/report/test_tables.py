"""The table and its downloads."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from come.report import tables
from come.report.measured import Value
from tests.app.synthetic import result

ORIGINAL = [result("original", 30, 40.5, 1.2)]
RUNS = [
    result("shortgpt", 27, 55.6, 2.0, accuracy=Value(0.5, 0.03)),
    result("come", 27, 59.6, prefill=Value(1.2, quartiles=(1.1, 1.4))),
    result("come", 24, 12345.6, 200.0),
]


def test_csv_holds_every_run_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(tables.rows(RUNS, ORIGINAL)))))
    assert [(row["method"], row["layers"]) for row in rows] == [
        ("original", "30"),
        ("shortgpt", "27"),
        ("come", "27"),
        ("come", "24"),
    ]
    assert float(rows[1]["perplexity"]) == 55.6 and rows[2]["perplexity_stderr"] == ""
    assert (rows[2]["prefill_q1"], rows[1]["prefill_q1"], rows[1]["accuracy"]) == ("1.1", "", "0.5")


def test_the_table_has_a_column_a_figure_and_gaps() -> None:
    table = tables.columns(tables.rows(RUNS, ORIGINAL))
    assert table["Perplexity"] == [40.5, 55.6, 59.6, 12345.6]
    assert table["± Perplexity"] == [1.2, 2.0, None, 200.0]
    accuracy = next(values for name, values in table.items() if name.startswith("Accuracy"))
    assert accuracy == [None, pytest.approx(50.0), None, None]
    assert len({len(values) for values in table.values()}) == 1
    assert tables.decimals(tables.rows(RUNS, ORIGINAL))["± Perplexity"] == 2


def test_the_original_stands_once_a_seed() -> None:
    twice = [result("original", 30, 40.5), result("original", 30, 40.5), result("original", 30, 41.0, seed=1)]
    assert len(tables.originals_once(twice)) == 2
    assert list(tables.columns(tables.rows([], twice))["Seed"]) == [0, 1]
    assert list(tables.columns(tables.rows(RUNS, ORIGINAL))["Seed"].isna()) == [True, False, False, False]


def test_markdown_is_a_table_with_errors_and_the_best_in_bold() -> None:
    lines = tables.to_markdown(RUNS, ORIGINAL).splitlines()
    assert len(lines) == 2 + 4
    assert {line.count("|") for line in lines} == {lines[0].count("|")}
    assert "| original | 30 |" in lines[2] and "40.5 ± 1.2" in lines[2]
    assert "**55.6 ± 2.0**" in lines[3] and "59.6" in lines[4] and "**59.6**" not in lines[4]
    assert "1.20 (1.10–1.40)" in lines[4] and "12,346 ± 200" in lines[5]


def test_where_all_are_alike_none_is_bold() -> None:
    alike = [result(name, 27, weights=Value(1e8)) for name in ("come", "sleb")]
    assert "**" not in tables.to_markdown(alike, [])


def test_latex_is_booktabs() -> None:
    text = tables.to_latex(RUNS, ORIGINAL)
    assert text.count(r"\midrule") == 3  # before the original, 27 and 24 layers
    assert r"\toprule" in text and r"\bottomrule" in text
    assert r"$\mathbf{55.6} \pm 2.0$" in text and r"$12{,}346 \pm 200$" in text
    assert r"$1.20$ (1.10--1.40)" in text and r"Accuracy, mean of the tasks (\%)" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len({line.count(" & ") for line in body}) == 1


def test_latex_signs_are_escaped() -> None:
    assert tables.escaped(r"50% & a_b #1 ~x^2 {y} \z $") == (
        r"50\% \& a\_b \#1 \textasciitilde{}x\textasciicircum{}2 \{y\} \textbackslash{}z \$"
    )


@given(st.text())
def test_no_sign_of_a_name_is_left_bare(name: str) -> None:
    left = tables.escaped(name)
    raised = (f"$^{digit}$" for digit in range(10))
    for command in (r"\textbackslash{}", r"\textasciitilde{}", r"\textasciicircum{}", r"$\times$", "$-$", *raised):
        left = left.replace(command, "")
    for sign in "&%$#_{}":
        left = left.replace(f"\\{sign}", "")
    assert not set(left) & set("&%$#_{}~^\\\n")


def test_a_bar_in_a_name_does_not_break_markdown() -> None:
    odd = result("a|b", 27, 50.0)
    assert r"A\|b" in tables.to_markdown([odd], [])


def test_seeds_are_one_line_in_the_summary_and_lines_of_their_own_in_csv() -> None:
    seeds = [result("come", 27, value, seed=seed) for seed, value in enumerate((60.0, 62.0))]
    assert "61.0 ± 1.4" in tables.to_markdown(seeds, [])
    assert len(tables.to_csv(tables.rows(seeds, [])).splitlines()) == 3


def test_runs_without_known_layers_are_in_the_summary() -> None:
    assert "| Fisher | – |" in tables.to_markdown([result("fisher", None, 50.0)], ORIGINAL)
