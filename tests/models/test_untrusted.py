"""Nothing that a model's files ask for is run, and nothing is asked on the terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.models import describe
from tests.folders import edit_json
from tests.tiny import tiny_folder, tiny_tokens

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
(Path(__file__).parent / "RAN").touch()
Path({mark!r}).touch()
class Config(LlamaConfig):
    model_type = "theirs"
class Model(LlamaForCausalLM):
    config_class = Config
class Tokenizer(PreTrainedTokenizerFast):
    pass
"""
OF_ITS_OWN = "brings code of its own, which is not run. Choose a model that Transformers knows without it"


def folder_with_code(parent: Path, family: str = "llama") -> tuple[Path, Path]:
    folder, mark = tiny_folder(parent, family), parent / "RAN"
    (folder / "theirs.py").write_text(CODE.format(mark=str(mark)))
    return folder, mark


@pytest.mark.parametrize(("family", "answer"), [("llama", ""), ("qwen2", "y\n")])
def test_the_command_asks_nothing_and_runs_nothing(family: str, answer: str, tmp_path: Path) -> None:
    folder, mark = folder_with_code(tmp_path, family)
    edit_json(folder / "config.json", model_type="theirs", auto_map={"AutoConfig": "theirs.Config"})
    asked = subprocess.run(
        [sys.executable, "-m", "come", "models", str(folder)], input=answer, capture_output=True, text=True, timeout=120
    )
    assert (asked.returncode, asked.stdout) == (2, "") and OF_ITS_OWN in asked.stderr
    assert len(asked.stderr.strip().splitlines()) == 1 and not mark.exists()


@pytest.mark.parametrize(
    "told",
    [
        {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}},
        {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}},
    ],
)
def test_an_architecture_in_code_is_one_sentence(told: dict[str, Any], tmp_path: Path) -> None:
    folder, mark = folder_with_code(tmp_path)
    edit_json(folder / "config.json", **told)
    for look in (come.load, describe):
        with pytest.raises(ComeError, match=OF_ITS_OWN):
            look(folder)
    assert not mark.exists()


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_code_beside_a_known_architecture_is_left_aside(family: str, tmp_path: Path) -> None:
    folder, mark = folder_with_code(tmp_path, family)
    before = come.load(folder).fingerprint
    edit_json(folder / "config.json", auto_map={"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"})
    assert come.load(folder).fingerprint == before and describe(folder).supported and not mark.exists()


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_a_tokenizer_in_code_is_one_sentence(family: str, tmp_path: Path) -> None:
    folder, mark = folder_with_code(tmp_path, family)
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="Tokenizer",
        auto_map={"AutoTokenizer": ["theirs.Tokenizer", "theirs.Tokenizer"]},
    )
    (folder / "tokenizer.json").rename(folder / "theirs.json")
    with pytest.raises(ComeError, match=f"({OF_ITS_OWN}|has no tokenizer)"):
        come.load(folder)
    assert not describe(folder).supported and not mark.exists()


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2"])
@pytest.mark.parametrize("name", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("chosen", ["flash_attention_2", "eager", "someone/kernels-of-theirs"])
def test_a_config_does_not_choose_how_attention_is_computed(
    family: str, name: str, chosen: str, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, family, layers=2)
    before = come.load(folder)
    edit_json(folder / "config.json", **{name: chosen})
    bundle = come.load(folder)
    assert bundle.model.config._attn_implementation == before.model.config._attn_implementation
    assert bundle.model(tiny_tokens()).logits.equal(before.model(tiny_tokens()).logits)
    assert describe(folder).supported
    saved = come.save(bundle, tmp_path / "saved")
    assert chosen not in (saved / "config.json").read_text()
