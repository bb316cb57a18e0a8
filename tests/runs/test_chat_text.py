"""Runs on chats and instructions say in which form these were read: results, card, command line, page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import come
from come.cli import main
from come.runs import Run, execute
from come.runs.reported import texts_read
from tests.runs.conftest import Create
from tests.tiny import tiny_folder, tiny_tokenizer

TEMPLATE = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
THROUGH = "messages, through the model's chat template"


@pytest.fixture(scope="session")
def chats(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "chats.jsonl"
    turns = ([("user", f"What is {n} times {n}?"), ("assistant", f"{n * n}.")] for n in range(600))
    rows = ({"messages": [{"role": role, "content": said} for role, said in each]} for each in turns)
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.fixture(scope="session")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "tasks.csv"
    path.write_text("instruction,output\n" + "\n".join(f"Double {n}.,It is {2 * n}." for n in range(600)))
    return path


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose tokenizer has a chat template."""
    folder = tiny_folder(tmp_path_factory.mktemp("taught"), layers=6)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    return folder


def test_a_run_reads_chats_as_the_model_was_taught(new_run: Create, taught: Path, chats: Path, tasks: Path) -> None:
    run = new_run(model=str(taught), text=str(chats), recover=["refit"], recover_text=str(tasks), recover_tokens=2048)
    execute(run)
    results = run.results()
    assert run.state().status == "done"
    assert results["calibration"]["form"] == results["evaluation"]["form"] == THROUGH
    assert results["recovery"]["form"] == "instruction, input and output, through the model's chat template"
    assert [results[use]["text"] for use in ("calibration", "recovery")] == ["chats.jsonl", "tasks.csv"]
    assert f"- form: {THROUGH}" in (run.path / "model" / "README.md").read_text()
    assert texts_read(results) == [
        f"chats.jsonl was read as {THROUGH}.",
        "tasks.csv was read as instruction, input and output, through the model's chat template.",
    ]
    bundle = come.load(taught)
    drawn = come.tokens(bundle, str(chats), 512, 64)
    hashed = come.compress(bundle, drawn, "come", target_layers=5).plan.calibration["tokens_hash"]
    plan = run.plan()
    assert plan is not None and plan.calibration["tokens_hash"] == hashed
    assert "<user>" in "".join(bundle.tokenizer.decode([token]) for token in drawn.flatten())
    assert any(f"chats.jsonl is read as {THROUGH}" in str(event.get("message")) for event in run.events())


@pytest.mark.slow
def test_another_template_is_another_text(new_run: Create, model: Path, taught: Path, chats: Path) -> None:
    def facts(which: Path) -> dict[str, Any]:
        run: Run = new_run(kind="analyze", model=str(which), text=str(chats))
        execute(run)
        return dict(run.results()["calibration"])

    assert facts(taught)["text_hash"] != facts(model)["text_hash"]
    assert facts(model)["form"].endswith("because the model has no chat template")


def test_a_plain_text_has_no_form(new_run: Create) -> None:
    run = new_run(kind="analyze")
    execute(run)
    assert "form" not in run.results()["calibration"] and texts_read(run.results()) == []


@pytest.mark.slow
def test_the_command_line_says_it(taught: Path, chats: Path, tasks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    length = ["--seq-len", "64", "--tokens", "256"]
    model = ["--model", str(taught)]
    assert main(["evaluate", *model, "--text", str(chats), *length]) == 0
    assert f"chats.jsonl was read as {THROUGH}." in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", *model, "--text", f"{tasks}:output", *length, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["form"] == 'column "output"' and told["text"].endswith("/tasks.csv:output")
    assert main(["analyze", *model, "--text", str(chats), *length]) == 0
    assert f"chats.jsonl was read as {THROUGH}." in " ".join(capsys.readouterr().out.split())
    asked = ["--target-layers", "5", "--method", "come", "--evaluation-tokens", "256"]
    assert main(["run", *model, "--text", str(tasks), *asked, *length]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "tasks.csv was read as instruction, input and output, through the model's chat template." in said
    assert main(["sweep", *model, "--text", str(tasks), *asked, *length]) == 0
    assert " ".join(capsys.readouterr().out.split()).count("tasks.csv was read as instruction") == 1
    assert main(["run", *model, "--text", f"{tasks}:nothing", *asked, *length]) == 2
    assert 'has no column "nothing". Its fields are: "instruction", "output".' in capsys.readouterr().err


def test_a_text_drawn_twice_is_the_same(taught: Path, chats: Path) -> None:
    bundle = come.load(taught)
    first, again = (come.tokens(bundle, chats, 512, 64, seed=3) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, come.tokens(tiny_tokenizer(), chats, 512, 64, seed=3))
