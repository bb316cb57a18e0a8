"""Rows drawn from a set: the same tokens as ``datasets`` shuffles, joins and cuts them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import huggingface_hub
import pytest
import torch

from come.errors import ComeError
from come.request import RunConfig, anchored_text, judged_on
from come.source_fingerprint import source_fingerprint
from come.text import describe_text, hub, read, tokens
from tests.tiny import tiny_tokenizer, tiny_tokenizer_with

LINES = [f"Row {number} has {number * number} in it.\n" if number % 3 else "\n" for number in range(200)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "rows.txt"
    path.write_text("".join(LINES))
    return path


@pytest.mark.parametrize(("count", "seed"), [(20, 10), (200, 0), (1, 3)])
def test_the_tokens_are_those_of_the_published_program(file: Path, count: int, seed: int) -> None:
    rows = datasets.Dataset.from_dict({"text": [line if line.strip() else "" for line in LINES]})
    text = "\n\n".join(rows.shuffle(seed=seed)[:count]["text"])
    name = f"{file}:rows={count},seed={seed}"
    assert read(name) == text
    for tokenizer in (tiny_tokenizer(), tiny_tokenizer_with()):
        ids: list[int] = tokenizer(text)["input_ids"]
        whole = len(ids) // 16
        if not whole:
            with pytest.raises(ComeError, match="holds"):
                tokens(tokenizer, name, 160_000, 16)
            continue
        wanted = torch.tensor(ids[: whole * 16]).view(whole, 16)
        assert torch.equal(tokens(tokenizer, name, 160_000, 16), wanted)
        assert torch.equal(tokens(tokenizer, name, 40, 16, seed=7), wanted[:2]), "at most so many, whatever the seed"


def test_rows_of_a_hub_set(monkeypatch: pytest.MonkeyPatch) -> None:
    hub.rows.cache_clear()
    rows = [{"text": line} for line in LINES]
    monkeypatch.setattr(hub, "_require_hub", lambda entry: None)
    monkeypatch.setattr(datasets, "load_dataset", lambda *asked, **_: rows if asked[0] == "Salesforce/wikitext" else [])
    told = describe_text("wikitext2:rows=5,seed=10")
    order = datasets.Dataset.from_dict({"text": LINES}).shuffle(seed=10)[:5]["text"]
    assert read("wikitext2:rows=5,seed=10") == "\n\n".join(order)
    assert told["name"] == "wikitext2:rows=5,seed=10"
    assert told["form"] == "5 of 200 rows, drawn by the seed 10"
    hub.rows.cache_clear()


def test_without_a_network_a_copy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, url: str, timeout: float) -> None:
            raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ComeError, match="'wikitext2' lies on the Hugging Face hub, which cannot be reached") as raised:
        read("wikitext2:rows=256,seed=10")
    assert "FILE.txt:rows=256,seed=10" in raised.value.hint


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("FILE:rows=201,seed=0", "has 200 rows, and 201 were asked for"),
        ("c4:rows=4,seed=0", "C4 is too large for that"),
        ("nowhere.txt:rows=4,seed=0", "no file"),
        ("python-docs:rows=4,seed=0", "no file"),
        ("FILE:rows=0,seed=0", "no file|no text"),
        ("FILE:rows=4", "no file|no text"),
    ],
)
def test_what_has_no_such_rows(file: Path, name: str, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        read(name.replace("FILE", str(file)))


def test_rows_are_no_text_to_judge_on(file: Path) -> None:
    with pytest.raises(ComeError, match="to calibrate on"):
        read(f"{file}:rows=4,seed=0", "evaluation")
    assert judged_on(f"{file}:rows=4,seed=0") == "python-docs"
    assert judged_on("wikitext2:rows=256,seed=10") == "wikitext2"


def test_a_file_of_rows_is_found_from_anywhere(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    assert anchored_text("rows.txt:rows=4,seed=0") == f"{file.resolve()}:rows=4,seed=0"
    assert source_fingerprint("rows.txt:rows=4,seed=0") == source_fingerprint(str(file)) != ""
    assert anchored_text("wikitext2:rows=4,seed=0") == "wikitext2:rows=4,seed=0"


def test_the_preset_is_filled_in_plainly() -> None:
    config = RunConfig.model_validate({"preset": "published", "target_layers": 27})
    asked: dict[str, Any] = config.model_dump()
    assert (asked["text"], asked["seq_len"], asked["seed"]) == ("wikitext2:rows=256,seed=10", 2048, 10)
    assert (asked["method"], asked["options"]["sbi_tokens"], asked["options"]["span"]) == ("come", "last", 2)
    assert config.evaluated_on == "wikitext2"
    assert RunConfig.model_validate(asked) == config
    own = {"preset": "published", "method": "come-p", "text": "mix", "seed": 3, "options": {"granularity": 5}}
    given = RunConfig.model_validate(own)
    assert (given.text, given.seed, given.seq_len) == ("mix", 3, 2048)
    assert (given.options["granularity"], given.options["sbi_tokens"]) == (5, "all")


@pytest.mark.parametrize(
    ("asked", "words"),
    [({"preset": "publish"}, "no preset 'publish'"), ({"preset": "published", "method": "laco"}, "none of laco's")],
)
def test_presets_that_are_none(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        RunConfig.model_validate(asked)
