"""Reading a model's tokenizer: one that knows words, none of which the model has no embedding for."""

from __future__ import annotations

import json
import os
import string
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from come.errors import ComeError, is_panic, reason_of

_PROBE = f"The quick brown fox jumps over a lazy dog.\n{string.printable}"  # each sign that most texts are made of
_MOST_ADDED = 1000  # tokens that a template puts before and behind a text
_MADE_UP = {"<|endoftext|>"}  # with special tokens, all that a tokenizer knows which Transformers makes without files


def read_tokenizer(where: str | Path, rows: int, name: str, **how: Any) -> Any:
    """The tokenizer of a model.

    Args:
        where: a folder, or a hub id.
        rows: how many tokens the model has embeddings for.
        name: what the model is called in a sentence.
        how: more for ``from_pretrained``.

    Raises:
        ComeError: there is none, or ordinary text would become token ids that the model has no embeddings for.
    """
    from come.models.auto import AutoTokenizer

    try:
        with _without_last_words():
            tokenizer = AutoTokenizer.from_pretrained(where, trust_remote_code=False, **how)
    except (ValueError, OSError) as error:
        if "instantiate the backend tokenizer" in str(error):
            raise _missing(name) from error
        if isinstance(error, json.JSONDecodeError):
            raise ComeError(
                f"The tokenizer of {name} cannot be read: one of its .json files is none ({reason_of(error)}).",
                "Fetch or copy tokenizer.json and tokenizer_config.json again.",
            ) from error
        raise
    _refuse_broken(tokenizer, name)
    vocabulary = tokenizer.get_vocab()
    added = tokenizer.added_tokens_decoder
    if not set(vocabulary) - {str(each) for each in added.values()} - _MADE_UP:
        raise _missing(name)
    # A special token may lie beyond, as Gemma 3's for pictures does: no text is made into it.
    beyond = [each for each in vocabulary.values() if each >= rows and not (each in added and added[each].special)]
    if beyond:
        raise ComeError(
            f"The tokenizer of {name} has token ids up to {max(beyond):,}, and the model embeddings for {rows:,} "
            f"tokens (ids up to {rows - 1:,}).",
            "Put the tokenizer there that the model was trained with, or train it with embeddings for all tokens.",
        )
    return tokenizer


def _refuse_broken(tokenizer: Any, name: str) -> None:
    """Refuse a tokenizer that fails on any text, or makes a flood of tokens of a few words."""
    try:
        if tokenizer.is_fast and (more := tokenizer.num_special_tokens_to_add()) > _MOST_ADDED:  # before they are made
            raise ComeError(
                f"The tokenizer of {name} puts {more:,} tokens beside every text.",
                "Fetch or copy tokenizer.json again.",
            )
        with _without_last_words():
            ids = tokenizer(_PROBE, verbose=False)["input_ids"]
            tokenizer.decode(ids[:100])
    except ComeError:
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise ComeError(
            f"The tokenizer of {name} fails on a plain text ({reason_of(error)}).",
            "Fetch or copy tokenizer.json again.",
        ) from error
    if len(ids) > 100 * len(_PROBE):
        raise ComeError(
            f"The tokenizer of {name} makes {len(ids):,} tokens of {len(_PROBE)} characters.",
            "Fetch or copy tokenizer.json again.",
        )


@contextmanager
def _without_last_words() -> Iterator[None]:
    """What is written in Rust prints where it gave up before it raises; that is said in a sentence instead.

    Only in the main thread: what others write to stderr meanwhile would be lost, too.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _missing(name: str) -> ComeError:
    return ComeError(f"{name} has no tokenizer.", "Put its tokenizer there with tokenizer.save_pretrained.")
