"""`come grow`, as it is typed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from come.cli import main
from tests.folders import as_fp8, edit_json, edit_weights
from tests.tiny import tiny_folder

SHORT = ("--tokens", "256", "--seq-len", "64")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    return str(tiny_folder(tmp_path, layers=4, max_position_embeddings=512))


@pytest.fixture
def text(tmp_path: Path) -> str:
    path = tmp_path / "numbers.txt"
    path.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(500)))
    return str(path)


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    status = main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert (status, err) == (0, "")
    return json.loads(out)


def test_what_was_grown_is_judged_saved_and_pruned_back(
    model: str, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    what = ("--text", text, *SHORT)
    made = told(capsys, "grow", model, "--method", "llama-pro", "--after", "0,2", "--out", "grown", *what)
    assert (made["original"]["layers"], made["grown"]["layers"]) == (4, 6)
    assert made["new"] == [1, 4] and made["origins"] == [0, 0, 1, 2, 2, 3] and made["fits"] == {}
    assert made["grown"]["perplexity"] == pytest.approx(made["original"]["perplexity"], rel=1e-6)
    assert made["grown"]["parameters"] > made["original"]["parameters"]
    again = told(capsys, "evaluate", "-m", "grown", *what)
    assert again["perplexity"] == pytest.approx(made["grown"]["perplexity"], rel=1e-6)
    pruned = told(capsys, "run", "-m", "grown", "--method", "shortgpt", "-n", "4", "--evaluation-tokens", "256", *what)
    assert pruned["results"]["pruned"]["perplexity"] == pytest.approx(
        pruned["results"]["original"]["perplexity"], rel=1e-6
    )
    weights = "model.safetensors"
    assert (Path(pruned["path"]) / "model" / weights).read_bytes() == (Path(model) / weights).read_bytes()


def test_tables_for_people(model: str, text: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    what = ("--layers", "5", "--option", "epochs=1", "--option", "hidden=8", "--text", text, *SHORT)
    assert main(["grow", model, *what]) == 0
    out = capsys.readouterr().out
    for words in ("original", "grown", "Grown from 4 to 5 layers by LESA", "mlp.down_proj", "neighbours' mean"):
        assert words in out
    assert {path.name for path in tmp_path.iterdir()} <= {"home", "numbers.txt", Path(model).name}
    assert main(["grow", "--help"]) == 0
    assert "solar" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("", "not said how many layers"),
        ("--layers 5 --method wider", "Choose from duplicate"),
        ("--layers 5 --option epochs=0", "Give 1 to 1000"),
        ("--layers 5 --method solar --option epochs=2", "has no option"),
        ("--after top", "names no layers"),
        ("--after 3", "layers 0 to 2"),
        ("--layers 5 --text none.txt", "no file"),
        ("--layers 5 --out .", "not empty"),
        ("--layers 0", "'--layers'"),
    ],
)
def test_a_users_error_is_one_line(command: str, sentence: str, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["grow", model, *command.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert sentence in err


def test_a_quantized_model_is_refused_before_it_is_read(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(model)
    edit_weights(folder, lambda weights: weights.update({name: each.bfloat16() for name, each in weights.items()}))
    edit_weights(folder, as_fp8)
    fp8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    edit_json(folder / "config.json", dtype="bfloat16", quantization_config=fp8)
    assert main(["grow", model, "--layers", "5"]) == 2
    assert "is quantized (fp8)" in capsys.readouterr().err


def test_the_command_waits_for_no_torch() -> None:
    seen = "import sys, come.cli.grow; raise SystemExit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", seen], check=False).returncode == 0
