"""A tokenizer is there, knows words, and gives no id that the model has no embedding for."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from transformers import AddedToken

import come
from come.cli import main
from come.errors import ComeError
from come.models import describe
from tests.folders import edit_json
from tests.tiny import VOCAB, tiny_bundle, tiny_folder, tiny_tokenizer

TASKS = ("physical_sense", "facts_cloze")


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ComeError, match=words) as caught:
        come.load(folder)
    assert "\n" not in str(caught.value)
    assert describe(folder).reason == str(caught.value) and not describe(folder).supported


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt", "gemma2", "gpt_neox"])
def test_a_folder_without_a_tokenizer_is_told_so(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    assert describe(folder).supported
    for file in folder.glob("tokenizer*"):
        file.unlink()
    refused(folder, "has no tokenizer. Put its tokenizer there with tokenizer.save_pretrained")
    tiny_tokenizer().save_pretrained(folder)
    assert describe(folder).supported, "the facts follow the files"


@pytest.mark.parametrize("file", ["tokenizer_config.json", "tokenizer.json"])
def test_a_tokenizer_that_cannot_be_read_is_told_as_that(file: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    (folder / file).write_text("{tokens}")
    words = r"tokenizer(_config)?\.json (cannot be read|is no JSON)|The tokenizer of .* cannot be read"
    with pytest.raises(ComeError, match=words) as loaded:
        come.load(folder)
    try:
        assert describe(folder).reason == str(loaded.value)
    except ComeError as error:
        assert str(error) == str(loaded.value)


@pytest.mark.parametrize("name", ["Qwen2Tokenizer", "LlamaTokenizer", "PreTrainedTokenizerFast"])
def test_a_tokenizer_without_its_vocabulary_is_none(name: str, tmp_path: Path) -> None:
    """Transformers makes up an empty one, to which every text is nothing."""
    folder = tiny_folder(tmp_path)
    (folder / "tokenizer.json").unlink()
    edit_json(folder / "tokenizer_config.json", tokenizer_class=name)
    refused(folder, "has no tokenizer")


@pytest.mark.parametrize(("family", "special"), [("llama", False), ("qwen2", False), ("falcon", False)])
def test_words_beyond_the_embeddings_are_refused_before_any_work(family: str, special: bool, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.add_tokens([AddedToken(f"word{n}", special=special) for n in range(VOCAB - len(tokenizer) + 2)])
    tokenizer.save_pretrained(folder)
    refused(
        folder, rf"token ids up to {VOCAB + 1}, and the model embeddings for {VOCAB} tokens \(ids up to {VOCAB - 1}\)"
    )


@pytest.mark.parametrize("family", ["gemma3_text", "llama"])
def test_a_special_token_beyond_them_is_none_of_a_text(family: str, tmp_path: Path) -> None:
    """Gemma 3's tokenizer has one for pictures, which its text models have no embedding for."""
    folder = tiny_folder(tmp_path, family)
    tokenizer = copy.deepcopy(tiny_tokenizer())
    names = [f"<unused{n}>" for n in range(VOCAB - len(tokenizer))]
    tokenizer.add_special_tokens({"additional_special_tokens": [*names, "<picture>"]})
    tokenizer.save_pretrained(folder)
    bundle = come.load(folder)
    assert max(bundle.tokenizer.get_vocab().values()) == VOCAB
    assert int(come.tokens(bundle, "python-docs", n_tokens=256, seq_len=64).max()) < VOCAB


@pytest.mark.parametrize("given", [(), ("bos_token",), ("eos_token",), ("pad_token",), ("bos_token", "eos_token")])
def test_accuracy_needs_neither_a_start_nor_an_end_of_text(given: tuple[str, ...]) -> None:
    """The bundled questions are asked as they are: the same tokens, the same answers, whatever the tokenizer lacks."""
    whole = tiny_bundle()
    expected = come.accuracy(whole, tasks=TASKS, limit=6)
    lacking = tiny_bundle()
    lacking.tokenizer = copy.deepcopy(tiny_tokenizer())
    for name in ("bos_token", "eos_token", "pad_token", "unk_token"):
        if name not in given:
            setattr(lacking.tokenizer, name, None)
    assert come.accuracy(lacking, tasks=TASKS, limit=6) == expected
    assert lacking.tokenizer.pad_token is None or "pad_token" in given


def test_text_is_sampled_and_scored_without_a_start_of_text() -> None:
    bundle = tiny_bundle()
    bundle.tokenizer = copy.deepcopy(tiny_tokenizer())
    bundle.tokenizer.bos_token = bundle.tokenizer.eos_token = None
    tokens = come.tokens(bundle, "python-docs", n_tokens=128, seq_len=32)
    assert torch.isfinite(torch.tensor(come.perplexity(bundle, tokens)))


def _with(folder: Path, **parts: object) -> None:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | parts))


def test_a_template_that_puts_a_flood_beside_every_text(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    ids = {"id": "<s>", "ids": [1] * 1000, "tokens": ["a"] * 1000}
    single = [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 20_000 + [{"Sequence": {"id": "A", "type_id": 0}}]
    _with(
        folder,
        post_processor={"type": "TemplateProcessing", "single": single, "pair": single, "special_tokens": {"<s>": ids}},
    )
    refused(folder, "tokens beside every text")


def test_what_gives_up_says_so_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tiny_folder(tmp_path)
    _with(folder, normalizer={"type": "Replace", "pattern": {"Regex": "(a|aa|[a-z ]+)+$(?!x)z"}, "content": ""})
    capfd.readouterr()  # of making it
    assert main(["evaluate", "-m", str(folder), "--tokens", "64"]) == 2
    out, err = capfd.readouterr()
    assert out == "" and len(err.splitlines()) == 1 and "tokenizer" in err and "panicked" not in err
