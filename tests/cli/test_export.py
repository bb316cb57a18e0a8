"""`come export`: a run's model, or a folder's, as one GGUF file."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest

from come.cli import main
from come.request import RunConfig
from come.runs import Run, create, execute
from tests.ggufs import gguf_folder
from tests.tiny import tiny_folder


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path_factory.mktemp("home")))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A finished run that kept its plan only."""
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"Line {n}: {n * n} brown foxes jump over {n % 7} lazy dogs." for n in range(400)))
    fields = {"n_tokens": 512, "seq_len": 64, "evaluation_tokens": 256, "target_layers": 3, "keep_model": False}
    made = create(RunConfig(model=str(gguf_folder(tmp_path)), text=str(text), **fields))
    execute(made)
    return made


def blocks(path: Path) -> int:
    return int(gguf.GGUFReader(path).fields["llama.block_count"].contents())


def test_a_run_is_written_by_its_id_and_by_its_directory(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", run.id[:17], "--gguf", "a.gguf", "--dtype", "F32", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert err == "" and told["dtype"] == "float32" and told["bytes"] == Path(told["file"]).stat().st_size
    assert main(["export", str(run.path), "--gguf", "b.gguf", "--dtype", "q8_0"]) == 0
    assert "iB in q8_0: " in capsys.readouterr().out
    assert blocks(tmp_path / "a.gguf") == blocks(tmp_path / "b.gguf") == 3
    assert (tmp_path / "b.gguf").stat().st_size < (tmp_path / "a.gguf").stat().st_size
    assert not (run.path / "model").exists() and list(run.path.glob(".pack-*")) == []


def test_a_folder_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = gguf_folder(tmp_path)
    assert main(["export", str(folder), "--gguf", "out/model.gguf"]) == 0
    assert "iB in float16: " in capsys.readouterr().out
    assert blocks(tmp_path / "out" / "model.gguf") == 4


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ("export --gguf x.gguf", "MODEL"),
        ("export no-such-run", "--gguf"),
        ("export no-such-run --gguf x.gguf", "no run"),
        ("export in/tiny-llama --gguf x.gguf", "of the kind WordLevel"),
        ("export in/tiny-olmo2-gpt-2 --gguf x.gguf", "Llama, Mistral"),
        ("export in/tiny-olmo2-gpt-2 --gguf x.gguf --dtype q4_0", "float32, bfloat16, float16, q8_0"),
        ("export in/tiny-llama --gguf in/tiny-llama", "is there already"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(
    command: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_folder(tmp_path / "in", layers=2)
    gguf_folder(tmp_path / "in", "olmo2", layers=2)
    capsys.readouterr()  # Transformers draws bars when it saves
    assert main(command.split()) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and sentence in err
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_its_help_begins_with_what_it_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "--help"]) == 0
    out = capsys.readouterr().out
    assert "llama.cpp" in out and "come export" in out and "q8_0" in out
