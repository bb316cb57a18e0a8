"""Runs that calibrate on what the model says itself, or recover on it; and on the mix."""

from __future__ import annotations

import pytest
import torch

import come
from come.errors import ComeError
from come.runs import execute
from come.text import sampled
from tests.runs.conftest import Create


@pytest.mark.slow
def test_a_run_on_what_the_model_says(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    run, other = new_run(text="self"), new_run(text="self", seed=1)
    execute(run)
    execute(other)
    told = run.results()["calibration"]
    assert (told["text"], told["split"], told["n_tokens"]) == ("self", "calibration", 512)
    assert told["text_hash"] != other.results()["calibration"]["text_hash"]
    assert run.results()["evaluation"]["text"] == "python-docs"
    assert run.results()["evaluation"]["text_hash"] == other.results()["evaluation"]["text_hash"]
    messages = [event["message"] for event in run.events()]
    assert "Sampling 8 sequences from the model" in messages
    assert "self" in (run.path / "model" / "README.md").read_text()

    monkeypatch.setattr(sampled, "write", lambda *_: pytest.fail("said again"))
    again = new_run(text="self")
    execute(again)
    assert (again.plan(), again.results()["calibration"]) == (run.plan(), told)


def test_it_is_what_the_library_samples(new_run: Create) -> None:
    run = new_run(text="self", evaluate=[])
    execute(run)
    bundle = come.load(run.config.model)
    tokens = come.tokens(bundle, "self", 512, 64)
    plan = run.plan()
    assert plan is not None
    assert come.compress(bundle, tokens, target_layers=4).plan.steps == plan.steps
    assert not torch.equal(tokens, come.tokens(bundle, "self", 512, 64, seed=1))


def test_a_recovery_learns_from_it(new_run: Create) -> None:
    run = new_run(recover=["logits"], recover_text="self", recover_tokens=1024, recover_options={"logits.steps": 2})
    execute(run)
    told = run.results()
    assert told["recovery"]["text"] == "self"
    assert told["recovery"]["text_hash"] != told["calibration"]["text_hash"]
    assert told["pruned"]["perplexity"] > 0


@pytest.mark.slow
def test_sampling_is_broken_off_like_any_other_stage(new_run: Create) -> None:
    run = new_run(text="self")

    def cancel(event: come.Event) -> None:
        if event.stage == "text" and event.of == 512 and event.step:
            (run.path / "cancel").touch()

    with pytest.raises(KeyboardInterrupt):
        execute(run, cancel)
    assert (run.state().status, run.plan()) == ("cancelled", None)
    execute(run)
    assert run.state().status == "done"


@pytest.mark.slow
def test_the_mix_is_calibrated_on_by_one_part_and_judged_by_the_other(new_run: Create) -> None:
    run = new_run(text="mix")
    execute(run)
    told = run.results()
    assert told["calibration"]["text"] == told["evaluation"]["text"] == "mix"
    assert told["calibration"]["text_hash"] != told["evaluation"]["text_hash"]


def test_a_run_is_not_judged_on_it(new_run: Create) -> None:
    with pytest.raises(ComeError, match="nothing can be judged"):
        new_run(evaluation_text="self")
