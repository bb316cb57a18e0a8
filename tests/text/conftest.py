"""A tokenizer in which every word is a token of its own, so that an id tells where in the text it stood."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit
from transformers import PreTrainedTokenizerFast

WORDS = 6000


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """Knows w0 ... w5999, each by its number."""
    vocabulary = {f"w{number}": number for number in range(WORDS)} | {"<unk>": WORDS}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", model_max_length=16)


@pytest.fixture
def tiny_bundle(tiny_tokenizer: PreTrainedTokenizerFast) -> SimpleNamespace:
    """As much of a bundle as tokens looks at: a model that reads 128 tokens at once."""
    model = SimpleNamespace(config=SimpleNamespace(max_position_embeddings=128))
    return SimpleNamespace(model=model, tokenizer=tiny_tokenizer)


@pytest.fixture(scope="session")
def words_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Writes "w0 w1 w2 ..." of so many words to a file and returns its path."""
    folder = tmp_path_factory.mktemp("words")

    def write(words: int) -> Path:
        path = folder / f"{words}.txt"
        path.write_text(" ".join(f"w{number}" for number in range(words)))
        return path

    return write
