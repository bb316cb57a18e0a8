"""lm-eval's own files of what a model answered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from come.cli import main
from tests.tiny import tiny_folder


@pytest.fixture
def asked(tmp_path: Path) -> list[str]:
    questions = tmp_path / "sums.jsonl"
    rows = [{"question": f"{n} and {n} is", "choices": ["odd", "even"], "answer": 1} for n in range(5)]
    questions.write_text("\n".join(map(json.dumps, rows)))
    return ["evaluate", "-m", str(tiny_folder(tmp_path, layers=2)), "--tasks", str(questions), "--limit", "4"]


def test_lm_evals_results_and_samples_are_written(
    asked: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*asked, "--lm-eval", str(tmp_path / "out"), "--samples", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    results, samples = sorted(map(Path, told["lm_eval"]), key=lambda path: path.suffix)
    assert results.name.startswith("results_") and samples.name.startswith("samples_sums.jsonl_")
    written = json.loads(results.read_text())
    assert written["results"]["sums.jsonl"]["acc,none"] == told["accuracy"]["sums.jsonl"]["acc"]
    assert written["n-samples"]["sums.jsonl"]["effective"] == 4 and written["config"]["limit"] == 4
    assert {"configs", "versions", "lm_eval_version", "transformers_version"} <= written.keys()
    answers = [json.loads(line) for line in samples.read_text().splitlines()]
    assert sum(each["acc"] for each in answers) / 4 == told["accuracy"]["sums.jsonl"]["acc"]


def test_without_samples_there_are_none(asked: list[str], tmp_path: Path) -> None:
    assert main([*asked, "--lm-eval", str(tmp_path / "out")]) == 0
    assert [path.name[:8] for path in (tmp_path / "out").rglob("*.json*")] == ["results_"]


def test_what_makes_no_sense_is_one_sentence(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    for words, sentence in ((["--samples"], "--lm-eval FOLDER"), (["--lm-eval", "/dev/null/out"], "cannot be written")):
        assert main([*asked, *words]) == 2
        err = capsys.readouterr().err
        assert sentence in err and "Traceback" not in err
    assert main(["evaluate", "-m", asked[2], "--lm-eval", "out"]) == 2
    assert "--tasks" in capsys.readouterr().err
