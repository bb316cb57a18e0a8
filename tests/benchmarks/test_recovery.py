"""Recovery at equal time: how many steps fit, what is kept, and that two rows are compared sequence by sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import recovery
from benchmarks.judging import ORIGINAL, rows, with_error
from benchmarks.pacing import TAKEN, Pace, Stopwatch
from come.events import Event
from tests.tiny import tiny_folder


def test_as_many_steps_as_fit() -> None:
    pace = Pace(fixed=10.0, step=2.0, check=1.0, writing=5.0, round=4)
    assert pace.seconds(9, check_every=8) == 10 + 18 + 2 + 15
    steps = pace.steps(100.0, check_every=8)
    assert pace.seconds(steps, 8) <= 100 < pace.seconds(steps + 1, 8)
    assert pace.steps(3.0, check_every=8) == 1, "what takes longer anyway is given one step"


def test_the_parts_of_a_recovery_are_told_apart() -> None:
    now = 0.0
    watch = Stopwatch(lambda: now)

    def told(seconds: float, **values: Any) -> None:
        nonlocal now
        now += seconds
        watch(Event("recover", 0, 1, values.pop("message", ""), values))

    told(7.0, layer=3, held_out_loss=0.1, message="a refit")
    for layer, step_seconds in ((3, 2.0), (5, 1.0)):
        assert not watch.enough()
        told(0.5, layer=layer, message="Sampling 4 sequences from the model")
        told(4.0 if layer == 3 else 0.0, layer=layer, message="Sampling 4 sequences from the model")
        for step in range(1, TAKEN + 1):
            assert not watch.enough()
            told(step_seconds + 0.25 * (step == TAKEN), layer=layer, step=step, train_loss=0.5)
        assert watch.enough()
    watch.written = watch.written[:2]
    now += 3.0
    pace = watch.pace(8)
    assert (pace.step, pace.check, pace.writing, pace.round) == (3.0, 0.5, 4.0, 8)
    assert pace.fixed == pytest.approx(7 + 0.5 + 0.5 + 3)


@pytest.mark.slow
def test_every_case_recovers_and_says_what_it_took(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    keep, text = tmp_path / "found.jsonl", tmp_path / "text.txt"
    text.write_text("\n".join(f"The word {number} stands on line {number * 7}." for number in range(200)))
    chosen = [recovery.DEFAULT, "default, text self", "distill-sp, predictions", "on-policy"]
    asked: dict[str, Any] = {
        "model": str(tiny_folder(tmp_path)), "dtype": "float32", "calibrate": str(text), "judge": [str(text)],
        "plan": ["come", "shortgpt"], "case": chosen, "layers": 4, "seconds": 0.05, "clock": "cpu",
        "tokens": 256, "learn_tokens": 256, "judge_tokens": 64, "seq_len": 16,
    }  # fmt: skip
    recovery.main(keep, **asked)
    found = {(row["case"], row["recovery"]): row for row in rows(keep)}
    names = [recovery.NOTHING, *chosen]
    assert set(found) == {
        (ORIGINAL, recovery.NOTHING),
        *((plan, name) for plan in ("come", "shortgpt") for name in names),
    }
    assert max(found[ORIGINAL, recovery.NOTHING]["texts"]["text.txt"]["kl"]) < 1e-5
    for (_, name), row in found.items():
        assert len(row["texts"]["text.txt"]["kl"]) == 4
        if name != recovery.NOTHING:
            assert row["steps"] >= 1 and row["tokens_taken"] == 2048 * row["steps"] and row["seconds"] > 0
    told = capsys.readouterr().out
    case = "on-policy"
    assert f"| shortgpt | 4 | {case} | 1 |" in told
    pair = found["shortgpt", case], found["come", case]
    apart = torch.tensor(pair[0]["texts"]["text.txt"]["kl"]) - torch.tensor(pair[1]["texts"]["text.txt"]["kl"])
    assert f"| shortgpt, {case} | come, {case} | 4 | {with_error(apart)} |" in told
    before = keep.read_text()
    monkeypatch.setattr(recovery, "recovered", lambda *_: pytest.fail("measured again"))
    recovery.main(keep, **asked)
    assert keep.read_text() == before
