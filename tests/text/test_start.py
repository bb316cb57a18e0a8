"""What sequences begin with: as Transformers' tokenizer of the model begins a text, no more and no less."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

import come
from come.errors import ComeError
from come.evaluate import measure_perplexity
from come.export.gguf_write import write_gguf
from come.text import begins_with, start_of_text, text_hash, tokens
from tests.ggufs import gguf_folder, tokenizer_of
from tests.tiny import CASES, tiny_bundle, tiny_tokenizer, tiny_tokenizer_with

EXAMPLE = Path(__file__).parents[2] / "app" / "example"
TEXT = "\n".join(f"{number} times {number} is {number * number}." for number in range(900))


@pytest.fixture(scope="session")
def numbers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """About 16,000 characters, each a token of the tiny models."""
    path = tmp_path_factory.mktemp("text") / "numbers.txt"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("kind", ["gpt-2", "smollm", "llama-bpe", "llama", "gemma", "phi3"])
def test_auto_is_what_the_tokenizer_does_itself(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    own = tokenizer("quick")["input_ids"]
    plain = tokenizer("quick", add_special_tokens=False)["input_ids"]
    assert start_of_text(tokenizer) + plain == own[: len(start_of_text(tokenizer)) + len(plain)]
    assert start_of_text(tokenizer, "always") == [tokenizer.bos_token_id]
    assert start_of_text(tokenizer, "never") == []


@pytest.mark.parametrize(("family", "kind", "start"), [("llama", "llama", "<s>"), ("gemma2", "gemma", "<bos>")])
def test_a_gguf_file_that_says_so_begins_like_the_folder(
    family: str, kind: str, start: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    folder = gguf_folder(tmp_path, family, kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    first = tokenizer.convert_tokens_to_ids(start)
    for add in (False, True):
        if add:
            own = processors.TemplateProcessing(single=f"{start} $A", special_tokens=[(start, first)])
            tokenizer.backend_tokenizer.post_processor = own
            tokenizer.save_pretrained(folder)
        file = write_gguf(folder, tmp_path / f"{add}.gguf", "float32")
        assert start_of_text(come.load(file).tokenizer) == ([first] if add else [])


def test_the_rules_where_the_tokenizer_puts_a_start() -> None:
    tokenizer = tiny_tokenizer_with("<s>")
    assert tokenizer("ab")["input_ids"][0] == 1
    assert start_of_text(tokenizer) == start_of_text(tokenizer, "always") == [1]
    assert start_of_text(tokenizer, "never") == []
    two = tiny_tokenizer_with("</s> <s>")  # as GLM-4's, of two tokens
    assert start_of_text(two) == start_of_text(two, "always") == [2, 1]
    unnamed = tiny_tokenizer_with("<s>")
    unnamed.bos_token = None  # a fine-tune that lost the name, and puts the token all the same
    assert unnamed.bos_token_id is None and start_of_text(unnamed) == [1]


def test_what_cannot_be_put_is_refused(tiny_tokenizer: PreTrainedTokenizerFast, words_file: Callable[[int], Path]):
    with pytest.raises(ComeError, match="no BOS token"):
        tokens(tiny_tokenizer, words_file(1000), 64, 64, bos="always")
    with pytest.raises(ComeError, match=r"'sometimes'.* auto, always or never"):
        tokens(tiny_tokenizer, words_file(1000), 64, 64, bos="sometimes")
    assert start_of_text(tiny_tokenizer) == [], "a tokenizer without one begins with text"
    with pytest.raises(ComeError, match="no room for text"):
        tokens(tiny_tokenizer_with("<s> </s>"), words_file(1000), 64, 2)


def test_every_sequence_begins_with_it_and_goes_on_with_text_as_it_stands(numbers: Path) -> None:
    tokenizer = tiny_tokenizer_with("<s>")
    text = torch.tensor(tiny_tokenizer()(TEXT)["input_ids"])
    border = len(text) * 4 // 5
    blocks = {
        "calibration": text[: border // 31 * 31].view(-1, 31).tolist(),
        "evaluation": text[border:][: (len(text) - border) // 31 * 31].view(-1, 31).tolist(),
    }
    for split, known in blocks.items():
        drawn = tokens(tokenizer, numbers, 640, 32, split)
        assert drawn.shape == (20, 32) and (drawn[:, 0] == 1).all() and not (drawn[:, 1:] == 1).any()
        taken = [known.index(row) for row in drawn[:, 1:].tolist()]
        assert len(set(taken)) == 20, "no block is drawn twice"
    assert begins_with(drawn, tokenizer) == "<s>"


@pytest.mark.parametrize("start", ["<s>", "</s> <s>"])
def test_the_first_sequence_is_what_transformers_gives_for_the_text(numbers: Path, start: str) -> None:
    tokenizer = tiny_tokenizer_with(start)
    whole = tokenizer(TEXT)["input_ids"]
    count = len(whole) * 4 // 5 // 40
    drawn = tokens(tokenizer, numbers, 40 * (count - 1), 40, seed=3).tolist()
    if whole[:40] not in drawn:  # the one block that was not drawn
        drawn = tokens(tokenizer, numbers, 40 * (count - 1), 40, seed=4).tolist()
    assert whole[:40] in drawn


@pytest.mark.parametrize("start", ["<s>", "</s> <s>"])
def test_a_start_that_the_text_has_itself_is_not_put_twice(start: str, tmp_path: Path) -> None:
    """As of chat templates that write it before each conversation."""
    tokenizer, begin = tiny_tokenizer_with(start), start.replace(" ", "")
    text = tmp_path / "chat.txt"
    text.write_text((begin + "a small conversation ") * 400)
    ids = tiny_tokenizer()(text.read_text(), add_special_tokens=False)["input_ids"]
    size, first = 20, start_of_text(tokenizer)
    blocks = len(ids) * 4 // 5 // (size - len(first))
    rows = tokens(tokenizer, text, blocks * size, size).tolist()
    doubled, had = [row for row in rows if row[: 2 * len(first)] == first * 2], 0
    assert not doubled
    part = ids[: len(ids) * 4 // 5]
    there = [part[at : at + size] for at in range(0, blocks * (size - len(first)), size - len(first))]
    for block in there:
        if block[: len(first)] == first and len(block) == size:
            had += 1
            assert block in rows, "as it stands in the text"
    assert had > 3
    assert all(row[: len(first)] == first and len(row) == size for row in rows)


def test_never_is_the_text_alone_as_it_was_before_there_was_a_choice(numbers: Path) -> None:
    without = tokens(tiny_tokenizer(), numbers, 640, 32, seed=5)
    assert torch.equal(tokens(tiny_tokenizer_with("<s>"), numbers, 640, 32, seed=5, bos="never"), without)
    assert torch.equal(tokens(tiny_tokenizer(), numbers, 640, 32, seed=5, bos="auto"), without)
    assert begins_with(without, tiny_tokenizer()) is None
    always = tokens(tiny_tokenizer(), numbers, 640, 32, seed=5, bos="always")
    assert torch.equal(always, tokens(tiny_tokenizer_with("<s>"), numbers, 640, 32, seed=5))


def test_a_text_that_is_too_short_says_how_much_can_be_had_with_the_starts(numbers: Path) -> None:
    tokenizer = tiny_tokenizer_with("<s>")
    with pytest.raises(ComeError, match="Ask for at most") as refused:
        tokens(tokenizer, numbers, 10_000, 64, split="evaluation")
    most = int(re.findall(r"at most ([\d,]+)", refused.value.hint)[0].replace(",", ""))
    assert tokens(tokenizer, numbers, most, 64, split="evaluation").numel() == most


@pytest.mark.parametrize("family", CASES)
def test_the_start_is_context_and_is_not_judged(family: str, numbers: Path) -> None:
    """Perplexity is exp of Transformers' own loss with the tokens as labels, whose first it leaves out: the start."""
    bundle = tiny_bundle(family)
    bundle.tokenizer = tiny_tokenizer_with("<s>")
    held_out = come.tokens(bundle, numbers, 160, 32, "evaluation")
    with torch.no_grad():
        own = bundle.model(held_out, labels=held_out).loss
    found = measure_perplexity(bundle, held_out)
    assert found.value == pytest.approx(math.exp(own), rel=1e-5)
    assert found.tokens == 5 * 31
    assert found.bytes == sum(len(tiny_tokenizer().decode(row[1:])) for row in held_out), "the start is no text"


def test_what_a_model_says_itself_begins_as_it_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    bundle = tiny_bundle(layers=2)
    own = come.tokens(bundle, "self", 96, 24)
    assert begins_with(own, bundle.tokenizer) == "<s>", "sampling has to start somewhere"
    assert torch.equal(come.tokens(bundle, "self", 96, 24, bos="never"), own)
    bundle.tokenizer = tiny_tokenizer_with("</s> <s>")
    said = come.tokens(bundle, "self", 96, 24)
    assert begins_with(said, bundle.tokenizer) == "</s><s>" and len(said.unique()) > 5


def test_only_special_tokens_that_all_sequences_share_are_a_start() -> None:
    tokenizer = tiny_tokenizer()
    assert begins_with(torch.tensor([[1, 9, 9], [1, 8, 8]]), tokenizer) == "<s>"
    assert begins_with(torch.tensor([[1, 9, 9], [2, 9, 9]]), tokenizer) is None
    assert begins_with(torch.tensor([[9, 1, 9], [9, 1, 9]]), tokenizer) is None
    assert begins_with(torch.empty(0, 4, dtype=torch.int64), tokenizer) is None


@pytest.mark.slow
def test_the_numbers_of_the_bundled_model_are_those_recorded_before_there_was_a_choice() -> None:
    """Its tokenizer puts no BOS: the shipped runs' tokens, and the perplexity of the original, come again."""
    bundle = come.load("smollm2-135m")
    assert start_of_text(bundle.tokenizer) == []
    recorded = [folder for folder in EXAMPLE.iterdir() if (folder / "plan.json").is_file()]
    assert len(recorded) > 5
    for folder in recorded:
        results = json.loads((folder / "results.json").read_text())
        told, judged = results["calibration"], results["evaluation"]
        if told["text_hash"] != text_hash(told["text"]):
            pytest.skip("this Python's language reference is another than the one of the recorded runs")
        drawn = come.tokens(bundle, told["text"], told["n_tokens"], told["seq_len"], "calibration", told["seed"])
        plan = json.loads((folder / "plan.json").read_text())
        assert hashlib.sha256(drawn.numpy().tobytes()).hexdigest() == plan["calibration"]["tokens_hash"]
    held_out = come.tokens(bundle, judged["text"], judged["n_tokens"], judged["seq_len"], "evaluation", judged["seed"])
    assert come.perplexity(bundle, held_out) == pytest.approx(results["original"]["perplexity"], rel=1e-4)
