"""`come evaluate`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import come
from come.cli import main
from tests.tiny import tiny_folder, tiny_tokens


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return str(tiny_folder(tmp_path, layers=4, max_position_embeddings=512))


@pytest.fixture
def original(tmp_path: Path) -> str:
    return str(tiny_folder(tmp_path / "original", layers=6, max_position_embeddings=512))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(500)))
    return str(path)


@pytest.fixture
def questions(tmp_path: Path) -> str:
    path = tmp_path / "mine.jsonl"
    path.write_text("\n".join(f'{{"question": "{n} is", "choices": ["odd", "even"], "answer": 0}}' for n in "13579"))
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status = main(["evaluate", *arguments, "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return json.loads(out)


def test_only_what_is_asked_for_is_measured(
    model: str, text: str, questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ("--tokens", "256", "--seq-len", "64")
    on_text = told(capsys, "-m", model, "--text", text, *short)
    assert on_text.keys() == {
        "model", "text", "n_tokens", "seq_len", "bos",
        "perplexity", "perplexity_stderr", "bits_per_byte", "bits_per_byte_stderr",
    }  # fmt: skip
    answered = told(capsys, "-m", model, "--tasks", questions, "--limit", "3")
    assert answered.keys() == {"model", "accuracy"}
    assert answered["accuracy"]["mine.jsonl"]["items"] == 3
    both = told(capsys, "-m", model, "--tasks", f"ppl, {questions}", "--text", text, *short)
    assert both["perplexity"] == on_text["perplexity"] and "accuracy" in both
    assert told(capsys, "-m", model, *short)["text"] == "python-docs"


def test_against_the_original(
    model: str, original: str, text: str, questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("-m", model, "--against", original, "--text", text, "--tokens", "256", "--seq-len", "64")
    found = told(capsys, *what, "--tasks", questions)
    assert found["kl"] > 0 and found["against"] == original
    alone = told(capsys, "-m", original, *what[4:])
    assert found["original"]["perplexity"] == alone["perplexity"]
    assert found["original"]["accuracy"].keys() == {"mine.jsonl"}
    assert found["retention"].keys() == found["stability"].keys() == {"mine.jsonl", "mean"}


def test_tables_for_people(
    model: str, original: str, text: str, questions: str, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("-m", model, "--against", original, "--text", text, "--tokens", "256", "--seq-len", "64", "--speed")
    assert main(["evaluate", *what, "--tasks", questions]) == 0
    out = capsys.readouterr().out
    for words in (
        "bits per byte",
        "original: perplexity",
        "tokens/s written",
        "left above chance",
        "stability",
        "mine.jsonl",
    ):
        assert words in out
    assert main(["evaluate", "--help"]) == 0
    assert "mmlu_dev" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("--tasks bundle", "Did you mean bundled"),
        ("--tasks none.jsonl", "no file"),
        ("--tasks bundled --limit 0", "'--limit': Input should be greater than or equal to 1"),
        ("--tokens 0", "'--tokens': Input should be greater than or equal to 1"),
        ("--seq-len 1", "'--seq-len': Input should be greater than or equal to 2"),
        ("--seed -1", "'--seed': Input should be greater than or equal to 0"),
        ("--batch-size 0", "'--batch-size': Input should be greater than or equal to 1"),
        ("--batch-size -3", "'--batch-size': Input should be greater than or equal to 1"),
        ("--text none.txt", "no file"),
        ("--against no-such-model", "no model"),
    ],
)
def test_a_users_error_is_one_line(command: str, sentence: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "-m", model, *command.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sentence in err


def test_which_depths_a_task_reads_from(
    model: str, original: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "many.jsonl"
    rows = [{"question": f"{n} is", "choices": ["odd", "even"], "answer": 1 - n % 2} for n in range(24)]
    file.write_text("\n".join(map(json.dumps, rows)))
    what = ("-m", model, "--against", original, "--probe", str(file))
    found = told(capsys, *what)
    assert found.keys() == {"model", "against", "probe"}
    ours, theirs = (found["probe"][which]["many.jsonl"] for which in ("model", "original"))
    assert (len(ours["weights"]), len(theirs["weights"])) == (5, 7)
    assert ours["held_out"] == theirs["held_out"] == len(ours["hits"]) == 7
    assert told(capsys, "-m", model, "--probe", str(file), "--seed", "1")["probe"]["model"] != found["probe"]["model"]
    assert main(["evaluate", *what, "--limit", "20"]) == 0
    out = capsys.readouterr().out
    for words in ("which depths", "mean depth", "embeddings", "after 3", "after 5", "6 of 20", "original: "):
        assert words in out
    with monkeypatch.context() as context:
        context.setattr("come.models.load", None)  # what is wrong is told before a model is loaded
        assert main(["evaluate", "-m", model, "--probe", str(file), "--limit", "19"]) == 2
    assert "Give 20 or more" in capsys.readouterr().err
    merged = come.compress(come.load(original), tiny_tokens(), method="come", windows=[(1, 3)])
    come.save(merged.bundle, tmp_path / "merged")
    assert main(["evaluate", "-m", str(tmp_path / "merged"), "--probe", str(file), "--limit", "20"]) == 0
    out = capsys.readouterr().out
    assert "after 1 to 3" in out and "after 4" in out and "after 2" not in out and "as in the original" in out
