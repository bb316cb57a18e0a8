"""`come report`: runs as one HTML file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from come.cli import main
from come.runs import Run
from tests.app import synthetic


@pytest.fixture(autouse=True)
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    """Two finished runs in the folder of runs."""
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return synthetic.sweep(tmp_path / "runs", ["come", "sleb"], [24])


def test_runs_are_named_by_id_its_beginning_or_directory(
    two: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = two
    assert main(["report", first.id[:15], str(second.path), "--out", "new/report.html", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bytes"] == Path(told["file"]).stat().st_size
    assert Path(told["file"]) == tmp_path.resolve() / "new" / "report.html"
    text = Path(told["file"]).read_text("utf-8")
    assert first.id in text and second.id in text and str(tmp_path) not in text
    assert main(["report", first.id, first.id, "--out", "one.html"]) == 0
    assert capsys.readouterr().out.endswith("one.html\n")
    assert second.id not in (tmp_path / "one.html").read_text("utf-8")


def test_a_users_error_is_one_sentence(two: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, path = two[0], tmp_path / "report.html"
    path.write_text("mine")
    for asked, words in (
        (["nobody", "--out", "a.html"], "There is no run 'nobody'"),
        ([run.id, "--out", str(path)], "is there already"),
        ([run.id, "--out", str(path / "below.html")], "below.html"),
        ([run.id], "Missing option '--out'"),
        (["--out", "a.html"], "Missing argument 'RUN'"),
    ):
        assert main(["report", *asked]) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and "Traceback" not in err
        assert words in err or asked[-1].endswith("below.html")
    assert path.read_text() == "mine" and not (tmp_path / "a.html").exists()


def test_without_a_run_that_is_done_nothing_is_written(
    two: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    two[0].update(status="failed", error="It broke.")
    (two[1].path / "state.json").unlink()
    assert main(["report", *(str(run.path) for run in two), "--out", "a.html"]) == 2
    told = capsys.readouterr().err
    assert "failed: It broke" in told and "state.json" in told and not (tmp_path / "a.html").exists()
