"""The start of a text, BOS for most models: what a tokenizer puts before it, and whether sequences begin so."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from come.errors import ComeError

WHEN = ("auto", "always", "never")
_PROBE = "a"  # any text will do


def start_of_text(tokenizer: Any, bos: str = "auto") -> list[int]:
    """The tokens that a sequence begins with, before its text.

    Args:
        tokenizer: of the model.
        bos: "auto" for what the tokenizer puts before a text by itself, which may be nothing; "always" for its BOS
            token even where it puts nothing there; "never" for nothing.

    Raises:
        ComeError: there is no such rule, or always a BOS token was asked for, and the tokenizer has none.
    """
    if bos not in WHEN:
        raise ComeError(f"BOS cannot be put {bos!r}.", f"Choose {', '.join(WHEN[:-1])} or {WHEN[-1]}.")
    if bos == "never":
        return []
    own = _put_before(tokenizer)
    if own or bos == "auto":
        return own
    if tokenizer.bos_token_id is None:
        raise ComeError("The model's tokenizer has no BOS token to begin sequences with.", "Choose auto or never.")
    return [int(tokenizer.bos_token_id)]


def begins_with(tokens: Tensor, tokenizer: Any) -> str | None:
    """The special tokens that every sequence begins with, as written, such as "<bos>"; None where there are none.

    Args:
        tokens: int64 (sequences, tokens).
        tokenizer: of the model.
    """
    return "".join(tokenizer.convert_ids_to_tokens(start_in(tokens, tokenizer))) or None


def start_in(tokens: Tensor, tokenizer: Any) -> list[int]:
    """The special tokens that every sequence begins with (see ``begins_with``)."""
    special = set(tokenizer.all_special_ids)
    special |= {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}
    found: list[int] = []
    for column in tokens.T if len(tokens) else ():
        first = int(column[0])
        if first not in special or not bool((column == first).all()):
            break
        found.append(first)
    return found


def _put_before(tokenizer: Any) -> list[int]:
    """What a tokenizer puts before a text by itself."""
    whole, plain = (
        list(tokenizer(_PROBE, add_special_tokens=added, verbose=False)["input_ids"]) for added in (True, False)
    )
    for length in range(len(whole) - len(plain) + 1):
        if plain and whole[length : length + len(plain)] == plain:
            return whole[:length]
    return []
