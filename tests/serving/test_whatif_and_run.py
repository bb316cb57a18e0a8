"""What a prediction says of a plan is what its run measures, figure by figure: both are judged on the same tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from come.request import RunConfig
from come.runs import create
from come.runs.execute import execute
from come.serving.resident import client
from come.serving.whatif.question import Subject


@pytest.mark.parametrize("method", ["come", "shortgpt", "come-joint"])
def test_a_prediction_and_its_run_agree(
    resident: None, folders: dict[str, Path], text: Path, tmp_path: Path, method: str
) -> None:
    del resident
    asked = {"n_tokens": 512, "seq_len": 32, "evaluation_tokens": 256, "target_layers": 5, "keep_model": False}
    run = create(RunConfig(model=str(folders["llama"]), text=str(text), method=method, **asked), tmp_path / "runs")
    execute(run)
    results = run.results()
    sizes = {"n_tokens": 256, "seq_len": 32, "measured_tokens": 512, "measured_seq_len": 32}
    subject = Subject(model=str(folders["llama"]), text=str(text), **sizes)
    for side, plan in (("original", None), ("pruned", run.path / "plan.json")):
        answer = client.whatif(subject, plan=plan)
        assert answer.perplexity == results[side]["perplexity"]
        assert answer.bits_per_byte == results[side]["bits_per_byte"]
    assert answer.kl == results["pruned"]["kl"]


def test_by_default_both_take_the_same_tokens() -> None:
    asked, subject = RunConfig(model="m"), Subject(model="m")
    assert (asked.evaluated_on, asked.evaluation_tokens, asked.seq_len, asked.evaluation_seed) == (
        subject.text,
        subject.n_tokens,
        subject.seq_len,
        subject.evaluation_seed,
    )
