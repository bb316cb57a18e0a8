"""The hub's sets, with the network's edge played: what is asked, and what is said without an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import datasets
import huggingface_hub
import pytest

from come.errors import ComeError
from come.text import hub, read, text_hash, tokens
from come.text.sources import has_own_splits

QUESTION = {"question": "Two plus two? ", "choices": ["3", "4", "5", "6"], "answer": 1}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Each test fetches anew."""
    hub._fetch.cache_clear()
    yield
    hub._fetch.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """Plays a hub whose sets hold w0 w1 ... in rows of ten words; lists what was asked of it."""
    calls: list[tuple[Any, ...]] = []

    def load_dataset(repo: str, config: str | None, *, split: str, streaming: bool) -> list[dict[str, Any]]:
        calls.append((repo, config, split, streaming))
        first = 3000 if split in ("test", "validation") else 0
        rows = range(first, first + 1000, 10)
        return [QUESTION | {"text": " ".join(f"w{n}" for n in range(row, row + 10))} for row in rows]

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "_require_hub", lambda entry: None)
    return calls


def test_a_set_with_splits_of_its_own_is_not_divided(asked, tiny_tokenizer):
    calibration = tokens(tiny_tokenizer, "wikitext2", 1000, 100)
    evaluation = tokens(tiny_tokenizer, "wikitext2", 1000, 100, split="evaluation")
    assert sorted(calibration.flatten().tolist()) == list(range(1000))
    assert sorted(evaluation.flatten().tolist()) == list(range(3000, 4000))
    assert asked == [
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "train", False),
        ("Salesforce/wikitext", "wikitext-2-raw-v1", "test", False),
    ]


def test_a_set_with_one_split_is_divided_and_fetched_once(asked, tiny_tokenizer):
    calibration = tokens(tiny_tokenizer, "alpaca", 800, 100)
    evaluation = tokens(tiny_tokenizer, "alpaca", 200, 100, split="evaluation")
    assert sorted(calibration.flatten().tolist()) == list(range(800))
    assert sorted(evaluation.flatten().tolist()) == list(range(800, 1000))
    assert asked == [("tatsu-lab/alpaca", None, "train", False)]


@pytest.mark.parametrize("name", hub.SETS)
def test_every_set_is_read_in_both_parts(asked, name):
    assert (read(name) != read(name, "evaluation")) == (has_own_splits(name) and name != "mmlu")
    assert len(text_hash(name)) == 64
    assert len(asked) == 2 if has_own_splits(name) else 1


def test_huge_sets_are_streamed_only_as_far_as_needed(monkeypatch):
    taken = 0

    def endless(*_: object, **options: object) -> Iterator[dict[str, str]]:
        nonlocal taken
        assert options["streaming"]
        while True:
            taken += 1
            yield {"text": "x" * 1_000_000}

    monkeypatch.setattr(datasets, "load_dataset", endless)
    monkeypatch.setattr(hub, "_require_hub", lambda entry: None)
    assert len(read("c4")) == 8_000_000
    assert taken == 8


def test_questions_carry_their_answers(asked):
    first = read("mmlu").split("\n\n")[0]
    assert first == "Two plus two?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer: B"


def test_without_a_network_one_sentence_at_once(monkeypatch):
    class Session:
        def head(self, url: str, timeout: float) -> None:
            assert timeout <= 10
            raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(ComeError, match="'c4' lies on the Hugging Face hub, which cannot be reached") as raised:
        read("c4")
    assert "python-docs" in raised.value.hint


def test_told_to_stay_offline_it_asks_only_the_cache(monkeypatch):
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'tatsu-lab/alpaca' on the Hub (OfflineModeIsEnabled)\nmore lines")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: pytest.fail("the network was asked"))
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ComeError) as raised:
        read("alpaca")
    reason = "Couldn't reach 'tatsu-lab/alpaca' on the Hub (OfflineModeIsEnabled)"
    assert raised.value.what == f"The hub did not give the text 'alpaca': {reason}."
