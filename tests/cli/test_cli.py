from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from come import cli
from come.cli import main
from come.cli.options import parse_pairs
from come.pruning.methods.come import ComeOptions
from come.request import RunConfig
from come.runs import Run, create, layers_needed, list_runs
from tests.cli.commands import SMALL, told

pytestmark = pytest.mark.usefixtures("folders")


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


@pytest.mark.slow
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


@pytest.mark.slow
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


def test_a_dry_run_says_what_would_run(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--model", model, "-n", "4", "--seq-len", "64", "--tokens", "640", "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"CoMe-Joint on {model}, down to 4 layers\n"), out


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
