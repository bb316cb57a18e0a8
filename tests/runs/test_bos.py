"""BOS from the request to the card: put where the tokenizer puts it, told everywhere, and not in what is older."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

import come
from come.cli import main
from come.cli.request import request_of
from come.export.card import model_card
from come.plan.plan import Plan
from come.request import RunConfig
from come.runs import Run, analysis_for, execute
from come.runs.command_line import command_line
from come.runs.shared import Shared
from come.serving.whatif.edits import plan_of
from come.serving.whatif.question import Merge, Question
from tests.rewriting import rewrite_request
from tests.runs.conftest import Create
from tests.tiny import tiny_folder, tiny_tokenizer_with


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer puts <s> before a text."""
    folder = tiny_folder(tmp_path_factory.mktemp("with-bos"))
    tiny_tokenizer_with("<s>").save_pretrained(folder)
    return folder


def hash_of(run: Run, bos: str) -> str:
    asked = run.config
    drawn = come.tokens(come.load(asked.model), asked.text, asked.n_tokens, asked.seq_len, seed=asked.seed, bos=bos)
    return hashlib.sha256(drawn.numpy().tobytes()).hexdigest()


def test_a_run_begins_its_sequences_so_and_tells(new_run: Create) -> None:
    run = new_run(recover=["refit"], recover_tokens=512)
    execute(run)
    results, plan = run.results(), run.plan()
    assert json.loads((run.path / "config.json").read_text())["bos"] == "auto"
    assert [results[text]["bos"] for text in ("calibration", "recovery", "evaluation")] == ["<s>"] * 3
    assert plan is not None and plan.calibration["bos"] == "<s>"
    assert plan.calibration["tokens_hash"] == hash_of(run, "always") != hash_of(run, "never")
    bundle = come.load(run.path / "model")
    held_out = come.tokens(bundle, run.config.text, 256, 64, "evaluation")
    assert (held_out[:, 0] == 1).all()
    assert results["pruned"]["perplexity"] == pytest.approx(come.perplexity(bundle, held_out), rel=1e-6)
    card = (run.path / "model" / "README.md").read_text()
    assert "- bos: `<s>` before each sequence" in card
    assert "On held-out text (numbers.txt; BOS: `<s>` before each sequence):" in card


def test_never_puts_none_and_says_so(new_run: Create) -> None:
    run = new_run(bos="never")
    execute(run)
    results, plan = run.results(), run.plan()
    assert plan is not None and plan.calibration["bos"] is None and results["evaluation"]["bos"] is None
    assert plan.calibration["tokens_hash"] == hash_of(run, "never")
    card = (run.path / "model" / "README.md").read_text()
    assert "- bos: none" in card and "(numbers.txt; BOS: none)" in card


@pytest.mark.slow
def test_a_run_from_before_keeps_its_meaning(new_run: Create) -> None:
    run, never = new_run(), new_run(bos="never")
    config = json.loads((run.path / "config.json").read_text())
    del config["bos"]
    rewrite_request(run, config)
    assert run.config.bos == "never"
    execute(run)
    execute(never)
    assert run.results()["pruned"]["perplexity"] == never.results()["pruned"]["perplexity"]


@pytest.mark.slow
def test_a_plan_from_before_goes_on_as_it_was_written(new_run: Create) -> None:
    run = new_run(bos="never")
    execute(run)
    whole, path = run.plan(), run.path / "plan.json"
    assert whole is not None
    old = json.loads(path.read_text())
    del old["calibration"]["bos"]
    path.write_text(json.dumps({**old, "steps": old["steps"][:1]}))
    (run.path / "results.json").unlink()
    run.update(status="interrupted")
    execute(run)
    ended = run.plan()
    assert ended is not None and ended.steps == whole.steps and "bos" not in ended.calibration


@pytest.mark.slow
def test_cells_of_one_process_do_not_share_the_tokens_of_another_rule(new_run: Create) -> None:
    shared = Shared()
    first, second = new_run(), new_run(bos="never")
    execute(first, shared=shared)
    execute(second, shared=shared)
    told = [run.results()["evaluation"]["bos"] for run in (first, second)]
    assert told == ["<s>", None]
    assert first.results()["original"]["perplexity"] != second.results()["original"]["perplexity"]


def test_an_analysis_is_found_by_what_its_sequences_began_with(new_run: Create, asked: dict[str, Any]) -> None:
    key = {name: asked[name] for name in ("model", "text", "n_tokens", "seq_len")}
    run = new_run(kind="analyze", target_layers=None, similarity=("cosine",))
    execute(run)
    measurement = run.measurement()
    assert measurement is not None and measurement.bos == "<s>"
    assert analysis_for(**key) == run
    assert analysis_for(**key, bos="never") is None and analysis_for(**key, bos="always") is None


def test_where_the_tokenizer_puts_none_never_is_the_same(
    new_run: Create, asked: dict[str, Any], tmp_path: Path
) -> None:
    asked = {**asked, "model": str(tiny_folder(tmp_path))}
    key = {name: asked[name] for name in ("model", "text", "n_tokens", "seq_len")}
    run = new_run(**{**asked, "kind": "analyze", "target_layers": None, "similarity": ("cosine",)})
    execute(run)
    assert analysis_for(**key) == analysis_for(**key, bos="never") == run
    assert analysis_for(**key, bos="always") is None


def test_the_plan_of_a_question_tells_it(model: Path, text: Path) -> None:
    bundle = come.load(model)
    measured = come.measure(bundle, come.tokens(bundle, text, 512, 64), similarity=())
    plan = plan_of(Question(merges=(Merge(first=1, last=2),)), bundle, measured)
    assert plan.calibration == {"tokens": 512, "seq_len": 64, "bos": "<s>"}
    assert "- bos: `<s>` before each sequence" in model_card(come.rebuild(str(model), plan))


def test_a_card_of_a_plan_from_before_says_nothing_of_it(new_run: Create) -> None:
    run = new_run()
    execute(run)
    plan = run.plan()
    assert plan is not None
    old = plan.model_copy(update={"calibration": {"sequences": 8, "seq_len": 64}})
    assert "- bos:" not in model_card(come.rebuild(run.config.model, Plan.parse(old.model_dump_json())))


@pytest.mark.parametrize("bos", ["auto", "always", "never"])
def test_the_command_line_asks_for_the_same(asked: dict[str, Any], bos: str) -> None:
    words = command_line(RunConfig(**asked, bos=bos)).split()
    given = words[words.index("--bos") + 1] if "--bos" in words else "auto"
    assert given == bos == request_of({"bos": given}).bos


def test_what_is_no_rule_is_refused(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", asked["model"], "--target-layers", "4", "--bos", "perhaps"]) == 2
    assert "bos cannot be 'perhaps'" in capsys.readouterr().err


def test_a_model_is_evaluated_behind_its_bos(model: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(*more: str) -> dict[str, Any]:
        arguments = ["evaluate", "-m", str(model), "--text", str(text), "--tokens", "256", "--seq-len", "64", *more]
        assert main([*arguments, "--json"]) == 0
        return dict(json.loads(capsys.readouterr().out))

    bundle = come.load(model)
    behind, alone = told(), told("--bos", "never")
    assert (behind["bos"], alone["bos"]) == ("<s>", None)
    for found, bos in ((behind, "auto"), (alone, "never")):
        held_out = come.tokens(bundle, text, 256, 64, "evaluation", bos=bos)
        assert found["perplexity"] == pytest.approx(come.perplexity(bundle, held_out), rel=1e-6)
