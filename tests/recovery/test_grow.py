"""Inheritune: training a model that kept its first layers, and putting the original's next ones on top."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.events import Event
from come.models import Bundle
from come.plan.plan import Plan
from come.recovery.recover import recover
from come.recovery.ways.grow import GrowOptions
from come.report import card, comparison, verdict
from come.report.metrics import metric
from come.request import RunConfig
from come.runs import pipeline
from come.runs.execute import execute
from come.runs.store import create
from tests.recovery.pruned import TOKENS, merged, rebuilt, same_weights, without
from tests.tiny import CASES, tiny_bundle, tiny_folder

QUICK: dict[str, Any] = {"lr": 1e-3, "batch_tokens": 32, "check_every": 1, "warmup": 0.0, "precision": "float32"}
NEVER, AT_ONCE = 1e-6, 100.0


def cut(family: str = "llama", target: int = 2, **options: Any) -> tuple[Bundle, Bundle]:
    teacher = tiny_bundle(family)
    return come.compress(teacher, TOKENS, "inheritune", target_layers=target, **options).bundle, teacher


def trained(model: Any, text: torch.Tensor, steps: int) -> None:
    """AdamW on all weights, by the text's next tokens, with a cosine from the first step on."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(steps):
        rate = 1e-3 if step == 0 else 1e-3 * 0.5 * (1 + math.cos(math.pi * (step - 1) / (steps - 1)))
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        model(text, labels=text).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()


def test_it_trains_grows_and_trains_again() -> None:
    student, teacher = cut()
    text = TOKENS[:1].repeat(8, 1)  # every batch is the same, and so is what is held out
    ours = recover(student, teacher, text, "grow", rounds=2, layers=3, steps=3, target_loss=NEVER, **QUICK)

    theirs = copy.deepcopy(student.model)
    trained(theirs, text[:2], 3)
    theirs.model.layers.extend(copy.deepcopy(list(teacher.layers)[2:5]))
    for index, layer in enumerate(theirs.model.layers):
        layer.self_attn.layer_idx = index
    theirs.config.num_hidden_layers = 5
    trained(theirs, text[:2], 3)
    expected = dict(theirs.named_parameters())
    assert len(ours.bundle.layers) == ours.plan.layers == 5
    # Where a gradient is nearly 0, AdamW makes steps of rounding errors: single weights differ by processor.
    apart, moved, before = 0.0, 0.0, dict(student.model.named_parameters())
    for name, value in ours.bundle.model.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name].detach(), rtol=1e-4, atol=2e-4)
        apart += float((value - expected[name]).detach().square().sum())
        if name in before:
            moved += float((value - before[name]).detach().square().sum())
    assert apart < 1e-4 * moved
    assert ours.plan.notes[-1] == "Recovery, grow: the target, as given, of 1e-06 was not met."


@pytest.mark.parametrize("family", CASES)
def test_what_has_grown_is_rebuilt_bit_for_bit(family: str, tmp_path: Path) -> None:
    student, teacher = cut(family, 3)
    text = TOKENS[:1].repeat(8, 1)  # what is held out, too, so that training is sure to change weights
    grown = recover(student, teacher, text, "grow", rounds=2, layers=1, steps=2, target_loss=NEVER, **QUICK)
    assert len(grown.bundle.layers) == 4
    assert [step.kind for step in grown.plan.steps] == ["remove", "replace"]
    again = rebuilt(teacher, grown, tmp_path)
    assert same_weights(again, grown.bundle)
    assert again.model.config.to_dict() == grown.bundle.model.config.to_dict()
    assert len(student.layers) == student.plan.layers == 3, "the model that was given stays as it is"


def test_weights_that_lay_between_stay(tmp_path: Path) -> None:
    """A refit of the cut, weights of an earlier way, and a layer that no training changed, in bfloat16."""
    teacher = tiny_bundle("qwen2")
    teacher.model.to(torch.bfloat16)
    student = come.compress(teacher, TOKENS, "inheritune", target_layers=3, refit=True).bundle
    options = {"rounds": 3, "layers": 1, "steps": 1, "target_loss": NEVER, **QUICK, "lr": 1e-12}
    grown = recover(student, teacher, TOKENS, ["logits", "grow"], **{**options, "logits.lr": 1e-2})
    alone = recover(student, teacher, TOKENS, "logits", **{**QUICK, "steps": 1, "lr": 1e-2})
    assert len(grown.bundle.layers) == 5
    assert same_weights(rebuilt(teacher, grown, tmp_path), grown.bundle)
    for new, old in zip(grown.bundle.layers, [*alone.bundle.layers, *list(teacher.layers)[3:5]], strict=True):
        for name, value in new.named_parameters():
            assert torch.equal(value, old.get_parameter(name))


def test_it_grows_no_more_than_it_has_to() -> None:
    student, teacher = cut()
    met = recover(student, teacher, TOKENS, "grow", rounds=4, layers=1, steps=1, target_loss=AT_ONCE, **QUICK)
    assert len(met.bundle.layers) == 2 and met.plan.notes[-1].endswith("of 100 was met.")
    bound = recover(student, teacher, TOKENS, "grow", rounds=9, steps=1, most_layers=3, target_loss=NEVER, **QUICK)
    assert len(bound.bundle.layers) == 3
    assert len([note for note in bound.plan.notes if "held-out loss" in note]) == 2, "nothing is gained by a third"
    most = recover(student, teacher, TOKENS, "grow", rounds=9, layers=4, steps=1, target_loss=NEVER, **QUICK)
    assert len(most.bundle.layers) == 5, "all but one"


def test_the_target_is_the_originals_own_loss() -> None:
    student, teacher = cut()
    grown = recover(student, teacher, TOKENS, "grow", rounds=1, steps=1, **QUICK)
    held_out = TOKENS[-3:]  # an eighth
    expected = math.log(come.perplexity(teacher, held_out))
    said = grown.plan.notes[-1].split("the original's, of ")[1].split()[0]
    assert float(said) == pytest.approx(expected, abs=2e-3)


def test_what_cannot_grow_is_refused() -> None:
    student, teacher = merged()
    for other in (student, without(teacher, 2, 5)):
        with pytest.raises(ComeError, match="grows by those that come next"):
            recover(other, teacher, TOKENS, "grow", steps=1)
    student, teacher = cut()
    teacher.model.to(torch.bfloat16)
    with pytest.raises(ComeError, match="another dtype"):
        recover(student, Bundle(teacher.model, teacher.tokenizer, teacher.family, "x"), TOKENS, "grow", steps=1)
    with pytest.raises(ComeError, match="those that lost something change"):
        GrowOptions(trains="merged")


def test_a_killed_one_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    student, teacher = cut()
    options = {"rounds": 2, "steps": 3, "target_loss": NEVER, "checkpoint_minutes": 0.0, **QUICK}

    class Killed(Exception):
        pass

    def kill(event: Event) -> None:
        if event.step > 700:
            raise Killed

    with pytest.raises(Killed):
        recover(student, teacher, TOKENS, "grow", checkpoint=tmp_path, on_progress=kill, **options)
    resumed = recover(student, teacher, TOKENS, "grow", checkpoint=tmp_path, **options)
    undisturbed = recover(student, teacher, TOKENS, "grow", **options)
    assert same_weights(resumed.bundle, undisturbed.bundle)
    read = recover(student, teacher, TOKENS, "grow", checkpoint=tmp_path, **options)
    assert same_weights(read.bundle, undisturbed.bundle) and read.plan == undisturbed.plan


@pytest.mark.slow
def test_a_run_tells_of_the_layers_that_it_has_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is killed between its plan's file, which says so, and its results."""
    options = {"rounds": 2, "layers": 1, "steps": 1, "target_loss": NEVER}
    config = RunConfig(
        model=str(tiny_folder(tmp_path)), method="inheritune", target_layers=3, n_tokens=512, seq_len=32,
        recover=["grow"], recover_tokens=512, recover_options=options, evaluate=["ppl"], evaluation_tokens=256,
    )  # fmt: skip
    run = create(config, tmp_path / "runs")

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> dict[str, Any]:
        raise Killed

    with monkeypatch.context() as patched:
        facts = pipeline.text_facts
        patched.setattr(pipeline, "text_facts", lambda *told: killed() if told[1] == "recovery" else facts(*told))
        with pytest.raises(Killed):
            execute(run)
    assert Plan.read(run.path / "plan.json").layers == 4 and "recovery" not in run.results()
    run.update(pid=2**30, process_start_id="gone 0")
    execute(run)
    results = run.results()
    assert (results["unrecovered"]["layers"], results["pruned"]["layers"]) == (3, 4)
    plan = run.plan()
    assert plan is not None and Plan.read(run.path / "plan.json").layers == 4
    assert "pruning to 3 took" in card.sentence(results) and "recovery, which put 1 back, to" in card.sentence(results)
    judged, entries = metric("perplexity"), comparison.entries([run])
    both = [entry.pruned for entry in entries if entry.pruned is not None]
    assert len(both) == 2 and verdict._recovery(both, judged) == "", "a model of other layers is not compared with"


def test_it_is_refused_before_anything_is_done_where_layers_are_changed(tmp_path: Path) -> None:
    config = RunConfig(
        model=str(tiny_folder(tmp_path)), method="come", target_layers=3, n_tokens=512, seq_len=32, recover=["grow"]
    )
    with pytest.raises(ComeError, match="takes models that only lost layers"):
        create(config, tmp_path / "runs")
