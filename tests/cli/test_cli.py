from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from come import cli
from come.cli import main
from come.cli.options import parse_pairs
from come.errors import ComeError
from come.pruning.methods.come import ComeOptions
from come.request import RunConfig
from come.runs import Run, create, layers_needed, list_runs, pipeline
from tests.tiny import tiny_folder

SMALL = ("--tokens", "512", "--seq-len", "64")


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tiny_folder(tmp_path_factory.mktemp("model"), family="llama", layers=6))


@pytest.fixture(scope="session")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(2500)))
    return str(path)


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """What a command prints with --json, having succeeded without a word on stderr."""
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return json.loads(out)


def test_from_a_run_to_its_rebuilt_model(
    model: str, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    what = ("--model", model, "--text", text, "--target-layers", "5", "--option", "floor=0.5")
    made = told(capsys, "run", *what, *SMALL, "--evaluation-tokens", "256")
    assert made["status"] == "done"
    assert made["config"]["options"] == {"floor": 0.5}
    assert made["results"]["pruned"]["layers"] == 5
    assert [run["id"] for run in told(capsys, "runs")] == [made["id"]]
    assert told(capsys, "runs", "list")[0]["perplexity"] == made["results"]["pruned"]["perplexity"]
    assert told(capsys, "runs", "show", made["id"])["results"] == made["results"]

    plan = f"{made['path']}/plan.json"
    rebuilt = told(capsys, "rebuild", plan, "--out", "rebuilt")
    assert rebuilt["layers"] == 5
    weights = "model.safetensors"
    assert (tmp_path / "rebuilt" / weights).read_bytes() == (Path(made["path"]) / "model" / weights).read_bytes()
    assert main(["rebuild", plan, "--out", "rebuilt"]) == 2
    capsys.readouterr()

    held_out = ("--tokens", "256", "--seq-len", "64", "--text", text)
    evaluated = told(capsys, "evaluate", "--model", "rebuilt", *held_out)
    assert evaluated["perplexity"] == pytest.approx(made["results"]["pruned"]["perplexity"], rel=1e-5)

    assert told(capsys, "runs", "delete", made["id"])["status"] == "deleted"
    assert list_runs() == []


def test_analyze_into_a_directory(model: str, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    made = told(capsys, "analyze", "--model", model, "--text", text, *SMALL, "--out", "analysis")
    assert len(made["block_influence"]) == 6
    assert (tmp_path / "analysis" / "analysis.safetensors").exists()
    assert not (tmp_path / "runs").exists()


def test_analyze_tells_what_merging_windows_costs(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    what = ("analyze", "--model", model, "--text", text, *SMALL)
    made = told(capsys, *what, "--windows", "2,4")
    windows = [(cost["first"], cost["last"]) for cost in made["window_costs"]]
    assert sorted(windows) == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 3), (2, 5), (3, 4), (4, 5)]
    assert main([*what, "--windows", "2", "--window-seconds", "0"]) == 0
    out = capsys.readouterr().out
    assert "parallel error" in out and "unit error" in out and out.count(" to ") >= 1
    assert "window_costs" not in told(capsys, *what)
    for wrong in ("1", "two"):
        assert main([*what, "--windows", wrong]) == 2
        assert "how many layers" in capsys.readouterr().err


def test_analyze_tells_how_few_layers_sequences_need(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    what = ("analyze", "--model", model, "--text", text, *SMALL, "--oracle", "2", "--tolerance", "0.1")
    made = told(capsys, *what)
    assert len(made["oracle"]) == 2
    for each in made["oracle"]:
        assert each["layers"] == min(len(each["kept"]), each["uniform"]) and each["kept_loss"] <= each["loss"] + 0.1
    kept = layers_needed.read(Run(Path(made["path"])), 6)[0.1]  # where the page finds it
    assert [list(each.kept) for each in kept.found] == [each["kept"] for each in made["oracle"]]
    assert main([*what, "--passes", "1"]) == 0
    out = capsys.readouterr().out
    assert "6 or fewer" in out and "0-5" in out and "mean" in out


def test_tables_for_people(model: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    windows = "windows=[[1, 2], [3, 5]]"
    what = ("--model", model, "--text", text, "--option", windows, "--evaluate", "none", "--plan-only")
    assert main(["run", *what, *SMALL]) == 0
    assert "pruned" in capsys.readouterr().out
    for command in ("runs", "methods", "models", f"models {model}", "runs show 2"):
        assert main(command.split()) == 0
        assert capsys.readouterr().out.strip()


def test_a_run_tells_what_it_measured(
    model: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = (f'{{"question": "{n} is", "choices": ["odd", "even"], "answer": {n % 2}}}' for n in range(8))
    (tmp_path / "mine.jsonl").write_text("\n".join(lines))
    what = ("--model", model, "--text", text, "-n", "4", "--plan-only", "--tasks", "mine.jsonl", *SMALL)
    assert main(["run", *what, "--evaluate", "acc,speed"]) == 0
    by_run = capsys.readouterr().out
    (run,) = list_runs()
    assert main(["runs", "show", run.id]) == 0
    for out in (by_run, capsys.readouterr().out):
        for words in ("original: ", "pruned: ", "tokens/s written", "mine.jsonl", "left above chance", "mean of what"):
            assert words in out


def test_methods_and_models(capsys: pytest.CaptureFixture[str], model: str) -> None:
    methods = told(capsys, "methods")
    assert {"come", "shortgpt", "random"} <= set(methods)
    assert methods["come"]["options"]["span"] == 2
    costs = {name: facts["cost"] for name, facts in methods.items()}
    assert all(costs.values())
    assert main(["methods"]) == 0
    out = capsys.readouterr().out
    assert all(f"  Cost: {cost}\n" in out for cost in costs.values())
    assert told(capsys, "models")["models"][0]["name"] == "smollm2-135m"
    assert told(capsys, "models", model)["layers"] == 6
    assert main(["models"]) == 0  # no reader of GGUF files knows all families
    assert "a .gguf file of those of them that Transformers reads" in capsys.readouterr().out


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


def test_a_dry_run_says_what_would_run(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", model, "-n", "4", "--seq-len", "64", "--tokens", "640", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"CoMe-Joint on {model}, down to 4 layers\n"), out


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


def test_every_command_has_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("", *["run", "sweep", "analyze", "rebuild", "evaluate", "methods", "models", "runs", "app"]):
        assert main([*command.split(), "--help"]) == 0
        assert "come r" in (out := capsys.readouterr().out) or ("come" in out and "Example" in out)
    assert main([]) == 0
    assert "execute" not in capsys.readouterr().out


def test_the_page_is_served_in_place_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[tuple[str, list[str], dict[str, str]]] = []
    monkeypatch.setattr(os, "execve", lambda *what: started.append(what))
    monkeypatch.delenv("COME_DEMO", raising=False)
    assert main(["app"]) == 0 and main(["app", "--port", "8600", "--demo"]) == 0
    (_, plain, here), (python, command, demo) = started
    assert python == sys.executable and command[:4] == [python, "-m", "streamlit", "run"]
    assert Path(command[4]).parts[-2:] == ("app", "serve.py") and command[-2:] == ["--server.port", "8600"]
    assert "--server.port" not in plain  # so that Streamlit takes the next free one
    assert "COME_DEMO" not in here and demo["COME_DEMO"] == "1"
    assert "--server.maxUploadSize" not in plain and command[command.index("--server.maxUploadSize") + 1] == "1"


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


def test_a_run_is_deleted_by_its_whole_id_only(model: str, text: str, capsys) -> None:
    run = create(RunConfig(model=model, text=text, kind="analyze", n_tokens=64, seq_len=16))
    assert main(["runs", "delete", run.id[:6]]) == 2
    assert run.path.is_dir() and "Give the whole id" in capsys.readouterr().err
    assert main(["runs", "delete", run.id]) == 0 and not run.path.exists()


@pytest.mark.parametrize(
    ("pair", "value"),
    [
        ("span=3", 3),
        ("exponent=2", 2.0),
        ("no_repeat=false", False),
        ("no-repeat=no", False),
        ("sbi_tokens=last", "last"),
        ("windows=[[4,5],[9,11]]", [(4, 5), (9, 11)]),
        ("windows=none", None),
        ("ratios=[[0.25,0.75],null]", [(0.25, 0.75), None]),
        ("drop=[3,12]", [3, 12]),
        ("batch_size=8", 8),
    ],
)
def test_options_take_the_types_of_the_method(pair: str, value: Any) -> None:
    (parsed,) = parse_pairs([pair], "come", ComeOptions).values()
    assert (parsed, type(parsed)) == (value, type(value))


@pytest.mark.parametrize("pair", ["span=2.5", "no_repeat=perhaps", "windows=4", "windows=[[1,2]"])
def test_options_of_another_type_are_refused(pair: str) -> None:
    with pytest.raises(ComeError, match="cannot be"):
        parse_pairs([pair], "come", ComeOptions)


def test_ctrl_c_cancels_a_run_and_it_can_be_resumed(
    model: str, text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ("--model", model, "--text", text, "--tokens", "8192", "--seq-len", "64")
    command = ("run", *what, "--target-layers", "1", "--evaluate", "none")
    environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[2])}
    with subprocess.Popen(
        [sys.executable, "-m", "come", *command],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        # A shell's background jobs ignore Ctrl-C, and their children with them; a terminal's do not.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        while process.poll() is None and not list(tmp_path.glob("runs/*/plan.json")):
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    assert (process.returncode, err) == (130, "Cancelled.\n")
    (run,) = list_runs()
    assert run.state().status == "cancelled"
    assert told(capsys, "runs", "resume", run.id)["status"] == "queued"
    assert told(capsys, "runs", "cancel", run.id)["status"] == "cancelled"
    assert told(capsys, "runs", "list")[0]["status"] == "cancelled"


def test_the_options_of_one_method_or_way(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "streamline", "grow"]) == 0
    out = capsys.readouterr().out
    assert out.count("Cost: ") == 2 and "light_layers=1" in out and "target_loss=" in out
    assert main(["methods", "streamlin"]) == 2
    assert "Did you mean streamline?" in capsys.readouterr().err


def test_a_run_where_a_model_is_wanted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    (run / "model").mkdir(parents=True)
    (run / "state.json").write_text("{}")
    (run / "config.json").write_text("{}")
    assert main(["evaluate", "-m", str(run)]) == 2
    assert f"is a run, not a model. Name the model in it, {run}/model." in capsys.readouterr().err
    (run / "model").rmdir()
    assert main(["evaluate", "-m", str(run)]) == 2
    assert "come rebuild" in capsys.readouterr().err
