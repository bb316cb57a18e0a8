"""Batches of tokens: what they hold, that parts and sequences never overlap, and every error."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from come.errors import ComeError
from come.text import tokens


@settings(deadline=None, max_examples=60)
@given(words=st.integers(100, 5000), seq_len=st.integers(2, 60), data=st.data(), seed=st.integers(0, 2**32))
def test_parts_and_sequences_never_overlap(tiny_tokenizer, words_file, words, seq_len, data, seed):
    border = words * 4 // 5
    seen: dict[str, torch.Tensor] = {}
    for split, held in (("calibration", border), ("evaluation", words - border)):
        if held < seq_len:
            continue
        asked = data.draw(st.integers(seq_len, held // seq_len * seq_len))
        drawn = tokens(tiny_tokenizer, words_file(words), asked, seq_len, split, seed)

        assert drawn.shape == (asked // seq_len, seq_len)
        assert drawn.dtype == torch.int64
        assert (drawn.diff(dim=1) == 1).all(), "each sequence is a run of the text as it stands"
        assert len(drawn.unique()) == drawn.numel(), "no token stands in two sequences"
        seen[split] = drawn
    if len(seen) == 2:
        assert seen["calibration"].max() < border <= seen["evaluation"].min()


def test_the_seed_alone_decides(tiny_tokenizer, words_file):
    path = words_file(5000)
    first = tokens(tiny_tokenizer, path, 640, 64, seed=3)
    assert torch.equal(first, tokens(tiny_tokenizer, path, 640, 64, seed=3))
    assert not torch.equal(first, tokens(tiny_tokenizer, path, 640, 64, seed=4))


def test_sequences_come_from_all_over_the_part(tiny_tokenizer, words_file):
    starts = tokens(tiny_tokenizer, words_file(5000), 1000, 50)[:, 0]
    assert starts.min() < 1000 and starts.max() > 3000


def test_rounds_down_to_whole_sequences(tiny_tokenizer, words_file):
    assert tokens(tiny_tokenizer, words_file(1000), 150, 64).shape == (2, 64)


def test_the_bundled_text_is_long_enough_for_the_defaults(tiny_tokenizer):
    assert tokens(tiny_tokenizer, "python-docs").shape == (16, 512)
    assert tokens(tiny_tokenizer, "python-docs", split="evaluation").shape == (16, 512)


def test_a_bundle_brings_its_tokenizer_and_its_limit(tiny_bundle, words_file):
    assert tokens(tiny_bundle, words_file(1000), 256, 128).shape == (2, 128)
    with pytest.raises(ComeError, match=r"129 tokens are longer than the 128"):
        tokens(tiny_bundle, words_file(1000), 256, 129)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"n_tokens": 0}, "0 tokens do not fill"),
        ({"n_tokens": -5}, "-5 tokens do not fill"),
        ({"n_tokens": 63}, "63 tokens do not fill one sequence of 64"),
        ({"seq_len": 1}, "at least 2 tokens, not 1"),
        ({"seq_len": 0}, "at least 2 tokens, not 0"),
        ({"split": "test"}, "no part named 'test'"),
        ({"n_tokens": 801}, None),
        (
            {"n_tokens": 832},
            "calibration part .* holds 800 tokens, and 832 in sequences of 64 .* at most 768",
        ),
        ({"split": "evaluation"}, "evaluation part .* holds 200 tokens, and 640 .* at most 192"),
        ({"seq_len": 500, "n_tokens": 500, "split": "evaluation"}, "holds 200 tokens.* shorter sequences"),
    ],
)
def test_numbers_out_of_range(
    tiny_tokenizer, words_file: Callable[[int], Path], asked: dict[str, int | str], says: str | None
):
    arguments = {"n_tokens": 640, "seq_len": 64} | asked
    if says is None:  # a part of a sequence too many is rounded away
        assert tokens(tiny_tokenizer, words_file(1000), **arguments).shape == (12, 64)
        return
    with pytest.raises(ComeError, match=says):
        tokens(tiny_tokenizer, words_file(1000), **arguments)
