"""A run that is asked for a probe on the command line: what it tells, and how it is asked for again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from come.cli import main
from come.cluster.job import missing_here
from come.errors import ComeError
from come.request import RunConfig, checked
from come.runs import list_runs
from come.runs.command_line import command_line
from come.serving.limits import DEMO
from tests.asked import questions_file
from tests.cli.commands import SMALL

pytestmark = pytest.mark.usefixtures("folders")


def test_a_run_tells_what_its_probe_found(
    model: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine, few = (
        Path(questions_file(tmp_path, name, count)).name for name, count in (("mine.jsonl", 24), ("few.jsonl", 9))
    )
    what = ["--model", model, "--text", text, "--method", "shortgpt", "-n", "4", "--plan-only"]
    asked = [*SMALL, "--evaluate", "probe", "--tasks", f"{mine},{few}"]
    assert main(["run", *what, *asked]) == 0
    by_run = capsys.readouterr().out
    (run,) = list_runs()
    assert main(["runs", "show", run.id]) == 0
    kept = sorted(set(range(6)) - {layer for step in run.plan().steps for layer in step.layers})
    for out in (by_run, capsys.readouterr().out):
        assert "original: which depths a task reads from" in out and "pruned: which depths a task reads from" in out
        assert "7 of 24" in out and "after 5" in out and f"after {kept[-1]}" in out
        assert "Layers are counted as in the original." in out
        assert "few.jsonl was not probed: 9 questions are fewer than 20." in out
    assert main(["runs", "show", run.id, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["pruned"]["probe"].keys() == {"mine.jsonl"}


def test_it_is_asked_for_again_with_its_tasks() -> None:
    asked = RunConfig(target_layers=24, evaluate=["probe"], tasks=["facts_cloze"], task_limit=50)
    words = shlex.split(command_line(asked))
    assert words[words.index("--evaluate") + 1] == "probe"
    assert words[words.index("--tasks") + 1] == "facts_cloze" and words[words.index("--limit") + 1] == "50"


def test_its_tasks_are_looked_at_as_those_of_accuracy_are(tmp_path: Path) -> None:
    asked = RunConfig(target_layers=24, evaluate=["probe"], tasks=[str(tmp_path / "gone.jsonl")])
    with pytest.raises(ComeError, match=r"gone\.jsonl"):
        checked(asked)
    assert "gone.jsonl" in str(missing_here(asked))
    with pytest.raises(ComeError, match="All questions are more than is allowed"):
        DEMO.check_run(RunConfig(target_layers=24, evaluate=["probe"], text="python-docs"))
