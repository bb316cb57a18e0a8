"""Reading a model's tokenizer: one that knows words, none of which the model has no embedding for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from come.errors import ComeError, reason_of

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


def _missing(name: str) -> ComeError:
    return ComeError(f"{name} has no tokenizer.", "Put its tokenizer there with tokenizer.save_pretrained.")
