"""What a tokenizer adds to a text at both ends."""

from __future__ import annotations

from typing import Any


def adds_ends(tokenizer: Any) -> tuple[bool, bool]:
    """Whether a tokenizer puts its BOS token before a text, and its EOS token after it, where nothing else is said."""
    ids = tokenizer("a").input_ids
    return (
        len(ids) > 1 and ids[0] == tokenizer.bos_token_id,
        len(ids) > 1 and ids[-1] == tokenizer.eos_token_id,
    )
