"""What a user does wrong is one line and an exit status; a fault of ours too, with its traceback on request."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from come import cli
from come.cli import main
from come.cli.options import parse_pairs
from come.errors import ComeError
from come.pruning.methods.come import ComeOptions
from come.runs import pipeline
from tests.cli.commands import SMALL

pytestmark = pytest.mark.usefixtures("folders")


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("run", "how far to prune"),
        ("run -n 4 --sparsity 0.2", "together"),
        ("run -n 0", "out of range"),
        ("run -n 99", "out of range"),
        ("run --sparsity 0.99", "out of reach"),
        ("run -n 4 --model no-such-model", "no model named"),
        ("run -n 4 --model .", "holds no model"),
        ("run -n 4 --method come2", "no method 'come2'"),
        ("run -n 4 --option spam=1", "no option 'spam'"),
        ("run -n 4 --option span", "has no value"),
        ("run --option windows=[[0,9]]", "does not fit"),
        ("run --option windows=[[0,1]] --option ratios=[[0.5,0.6]]", "sum to 1"),
        ("run --option windows=[[0,1]] --option drop=[1]", "dropped and merged at once"),
        ("run -n 4 --option drop=[1]", "go with windows by hand"),
        ("run -n 4 --text no-such.txt", "no file"),
        ("run -n 4 --evaluate sped", "sped"),
        ("run -n 4 --evaluate acc --tasks helaswag", "no task 'helaswag'"),
        ("run -n 4 --recover reft", "no way to recover named 'reft'"),
        ("run -n 4 --recover refit --recover-option spam=1", "no option 'spam'"),
        ("run -n 4 --tokens 0", "'--tokens': Input should be greater than or equal to 1"),
        ("run -n 4 --recover-tokens 1", "'--recover-tokens': Input should be greater than or equal to 2"),
        (
            "sweep --method come -n 4 --evaluation-tokens 0",
            "'--evaluation-tokens': Input should be greater than or equal to 1",
        ),
        ("sweep --method come -n 4 --seed -1", "seed cannot be -1"),
        ("analyze --span 1", "'--span': Input should be greater than or equal to 2"),
        ("run -n 4 --dtype float8", "should be 'auto', 'float32', 'bfloat16' or 'float16'"),
        ("run -n four", "valid integer"),
        ("run --no-such-option", "--no-such-option"),
        ("analyze --span 7", "does not fit"),
        ("rebuild no-such.json --out x", "no-such.json"),
        ("rebuild", "PLAN.json"),
        ("app --port 0", "'--port'"),
        ("evaluate --tasks helaswag", "no task 'helaswag'"),
        ("sweep --method come", "needs targets"),
        ("sweep -n 4", "needs a method"),
        ("sweep --method come2 -n 4", "no method 'come2'"),
        ("sweep --method come -n four", "takes whole numbers"),
        ("sweep --method come -n 99", "out of range"),
        ("sweep --method come -n 4,99 --dry-run", "out of range"),
        ("run -n 4 --device mps", "no mps device"),
        ("analyze --device mps", "no mps device"),
        ("sweep --method come -n 4 --device mps", "no mps device"),
        ("sweep --method come -n 4 --option shortgpt2.span=3", "no method 'shortgpt2'"),
        ("runs show no-such-run", "no run"),
        ("no-such-command", "`come --help`"),
        ("show run-1", "Did you mean `come runs show`?"),
        ("run my-model -n 4", "A model is named with --model."),
        ("run", "Give --target-layers or sparsity."),
    ],
)
def test_a_users_error_is_one_line_and_leaves_nothing(
    command: str, sentence: str, model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name, *rest = command.split()
    if name in ("run", "analyze", "sweep") and "--model" not in rest:
        rest += ["--model", model]
    assert main([name, *rest]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert sentence in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        (ComeError("It cannot be.", "Let it be."), 2, "1 of 2 cells failed. It cannot be. Let it be."),
        (ValueError("x"), 1, "1 of 2 cells failed. The run failed by a fault of ours (ValueError)."),
    ],
)
def test_a_sweep_with_a_cell_that_failed_is_no_success(
    error: Exception,
    status: int,
    sentence: str,
    model: str,
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    compress = pipeline.compress

    def fail(bundle: Any, tokens: Any, method: str, **named: Any) -> Any:
        if method == "shortgpt":
            raise error
        return compress(bundle, tokens, method, **named)

    what = ("--model", model, "--text", text, "-n", "4", "--evaluate", "none", *SMALL, "--json")
    monkeypatch.setattr(pipeline, "compress", fail)
    assert main(["sweep", *what, "--method", "random,shortgpt"]) == status
    out, err = capsys.readouterr()
    assert [run["status"] for run in json.loads(out)["runs"]] == ["done", "failed"]
    assert sentence in err and err.count("\n") == 1


def test_a_reader_that_has_had_enough_is_no_fault() -> None:
    come = [sys.executable, "-m", "come", "methods"]
    with subprocess.Popen(come, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.wait(timeout=120) == 0
        assert process.stderr.read() == ""


def test_a_fault_of_ours_is_one_line_and_a_traceback_only_on_request(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli.runs, "list_runs", lambda _: 1 / 0)
    assert main(["runs"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["--debug", "runs"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_an_address_that_is_none_and_a_port_that_is_taken_are_refused(monkeypatch, capsys) -> None:
    monkeypatch.setattr(os, "execve", lambda *what: pytest.fail("it was started"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["app", "--address", "127.0.0.1", "--port", str(port)]) == 2
        assert f"The port {port} is not free" in capsys.readouterr().err
    assert main(["app", "--address", "999.1.1.1"]) == 2
    assert "999.1.1.1 is no address of this machine" in capsys.readouterr().err
    monkeypatch.setenv("COME_PASSWORD", "short")
    assert main(["app"]) == 2
    assert "COME_PASSWORD is short" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["a b/c", "https://lab.example.org", "lab:8501", "a.*"])
def test_a_name_that_no_host_has_is_refused(monkeypatch, capsys, name: str) -> None:
    monkeypatch.setattr(os, "execve", lambda *what: pytest.fail("it was started"))
    assert main(["app", "--host-name", name]) == 2
    assert "is no name of a host" in capsys.readouterr().err


@pytest.mark.parametrize("pair", ["span=2.5", "no_repeat=perhaps", "windows=4", "windows=[[1,2]"])
def test_options_of_another_type_are_refused(pair: str) -> None:
    with pytest.raises(ComeError, match="cannot be"):
        parse_pairs([pair], "come", ComeOptions)
