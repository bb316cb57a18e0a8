"""An engine beside the model: the same tokens agree, others are told of with what they cost, level ones pass."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib import metadata
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import come
from come import cli
from come.engines import ENGINES, Written, check
from come.engines import run as engines
from come.errors import ComeError
from tests.ggufs import gguf_folder

PROMPTS = ("one two", "three")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf_folder(tmp_path_factory.mktemp("engines"), layers=2)


def greedy(folder: Path, prompt: str, count: int) -> Written:
    """Token by token, by whole passes: what `check` must agree with."""
    bundle = come.load(folder)
    ids = [int(each) for each in bundle.tokenizer(prompt)["input_ids"]]
    tokens: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            logits = bundle.model(torch.tensor([ids + tokens]), use_cache=False).logits[0, -1]
            tokens.append(int(logits.argmax()))
    return Written(ids, tokens)


def test_plain_transformers_says_the_same(folder: Path) -> None:
    found = check(folder, "transformers", PROMPTS, 6)
    assert found.agrees and [each.alike for each in found.prompts] == [6, 6]
    assert [each.said for each in found.prompts] == [
        come.load(folder).tokenizer.decode(greedy(folder, prompt, 6).tokens) for prompt in PROMPTS
    ]


def test_another_token_is_told_of_with_what_it_costs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = {prompt: greedy(folder, prompt, 6) for prompt in PROMPTS}

    def wrong_at_three(place: Path, prompts: tuple[str, ...], count: int) -> list[Written]:
        first, second = (right[prompt] for prompt in prompts)
        other = (first.tokens[3] + 1) % 20
        return [Written(first.prompt, [*first.tokens[:3], other, *first.tokens[4:]]), second]

    monkeypatch.setitem(ENGINES, "odd", replace(ENGINES["transformers"], write=wrong_at_three))
    found = check(folder, "odd", PROMPTS, 6)
    first, second = found.prompts
    bundle, written = come.load(folder), right[PROMPTS[0]]
    with torch.inference_mode():
        logits = bundle.model(torch.tensor([[*written.prompt, *written.tokens[:3]]]), use_cache=False).logits[0, -1]
    chances = logits.float().log_softmax(-1)
    gap = float(chances.max() - chances[(written.tokens[3] + 1) % 20])
    assert first.alike == 3 and first.gap == pytest.approx(gap, rel=1e-4) and second.agrees
    monkeypatch.setattr("come.engines.compare.TIE", gap + 1)
    assert first.agrees  # as good as level
    monkeypatch.setattr("come.engines.compare.TIE", gap / 2)
    assert not found.agrees


def test_other_tokens_of_the_prompt_are_no_agreement(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def with_another_tokenizer(place: Path, prompts: tuple[str, ...], count: int) -> list[Written]:
        return [
            Written([1, *written.prompt], written.tokens) for written in (greedy(place, each, 2) for each in prompts)
        ]

    monkeypatch.setitem(ENGINES, "odd", replace(ENGINES["transformers"], write=with_another_tokenizer))
    assert not check(folder, "odd", PROMPTS, 2).agrees


def test_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["check", str(folder), "--new-tokens", "3", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["agrees"] and told["engine"] == "transformers" and len(told["prompts"]) == 4
    for words, sentence in (
        ([str(folder), "--engine", "onnx"], "There is no engine 'onnx'"),
        ([str(tmp_path / "none")], "There is no folder"),
        ([str(folder), "--engine", "missing"], "missing is not installed. pip install missing-package."),
    ):
        gone = replace(ENGINES["vllm"], module="no_such_module", package="missing-package")
        monkeypatch.setitem(ENGINES, "missing", gone)
        assert cli.main(["check", *words]) == 2
        out, err = capsys.readouterr()
        assert out == "" and sentence in err and err.count("\n") == 1

    def breaks(place: Path, prompts: tuple[str, ...], count: int) -> list[Written]:
        raise RuntimeError("unknown architecture")

    monkeypatch.setitem(ENGINES, "odd", replace(ENGINES["transformers"], write=breaks))
    assert cli.main(["check", str(folder), "--engine", "odd"]) == 2
    assert "odd does not run" in capsys.readouterr().err


def test_llama_cpp_says_the_same(folder: Path) -> None:
    pytest.importorskip("llama_cpp", reason="an extra: pip install llama-cpp-python")
    assert check(folder, "llama.cpp", PROMPTS, 6).agrees


def test_vllm_says_the_same(folder: Path) -> None:
    pytest.importorskip("vllm", reason="an extra: pip install vllm")
    if not torch.cuda.is_available():
        with pytest.raises(ComeError, match="CUDA"):
            check(folder, "vllm", PROMPTS, 6)
        return
    assert check(folder, "vllm", PROMPTS, 6).agrees


def stub_of_vllm(monkeypatch: pytest.MonkeyPatch, there_is_a_device: bool) -> list[tuple[Any, ...]]:
    """A module of vLLM's shape that writes as the model does, and what it was told."""
    told: list[tuple[Any, ...]] = []

    class LLM:
        def __init__(self, model: str, **settings: Any) -> None:
            told.append((model, settings))
            self.folder = Path(model)

        def generate(self, prompts: list[str], sampling: dict[str, Any]) -> list[SimpleNamespace]:
            told.append((prompts, sampling))
            written = [greedy(self.folder, each, sampling["max_tokens"]) for each in prompts]
            return [
                SimpleNamespace(prompt_token_ids=each.prompt, outputs=[SimpleNamespace(token_ids=tuple(each.tokens))])
                for each in written
            ]

    stub(monkeypatch, "vllm", LLM=LLM, SamplingParams=dict)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there_is_a_device)
    return told


def stub(monkeypatch: pytest.MonkeyPatch, name: str, **attributes: Any) -> None:
    """An engine's module, installed as far as can be seen."""
    module = ModuleType(name)
    module.__spec__ = ModuleSpec(name, None)
    vars(module).update(attributes)
    monkeypatch.setitem(sys.modules, name, module)
    package, of_others = next(each.package for each in ENGINES.values() if each.module == name), metadata.version
    monkeypatch.setattr(metadata, "version", lambda asked: "0.0" if asked == package else of_others(asked))


def test_a_stub_of_vllm_is_asked_for_the_likeliest_tokens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = stub_of_vllm(monkeypatch, there_is_a_device=True)
    found = check(folder, "vllm", PROMPTS, 6)
    assert found.agrees and found.version == "0.0" and [each.alike for each in found.prompts] == [6, 6]
    (model, _), (prompts, sampling) = told
    assert (model, prompts) == (str(folder), list(PROMPTS))
    assert sampling == {"temperature": 0.0, "max_tokens": 6, "ignore_eos": True}


def test_vllm_is_not_begun_without_a_device(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = stub_of_vllm(monkeypatch, there_is_a_device=False)
    with pytest.raises(ComeError, match="CUDA device, and there is none"):
        check(folder, "vllm", PROMPTS, 6)
    assert not told


def test_a_stub_of_llama_cpp_reads_the_folder_as_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    class Llama:
        def __init__(self, file: str, **_: Any) -> None:
            read.append(Path(file))
            self.begun = False

        def tokenize(self, prompt: bytes, special: bool) -> list[int]:
            self.prompt = prompt.decode()
            return [int(each) for each in come.load(folder).tokenizer(self.prompt)["input_ids"]]

        def reset(self) -> None:
            self.begun = True

        def generate(self, ids: list[int], temp: float, repeat_penalty: float) -> Iterator[int]:
            assert self.begun and (temp, repeat_penalty) == (0.0, 1.0), "greedily, nothing punished"
            self.begun = False
            assert come.load(read[0]).fingerprint == come.load(folder).fingerprint, "the file is the model"
            yield from greedy(folder, self.prompt, 50).tokens

    stub(monkeypatch, "llama_cpp", Llama=Llama)
    found = check(folder, "llama.cpp", PROMPTS, 6)
    assert found.agrees and [each.alike for each in found.prompts] == [6, 6]
    assert read[0].suffix == ".gguf" and not read[0].exists(), "made for this, and removed"


def test_transformers_is_not_asked_to_read_a_gguf(folder: Path) -> None:
    with pytest.raises(ComeError, match="tried on a folder"):
        engines.ENGINES["transformers"].write(folder / "model.gguf", PROMPTS, 2)
