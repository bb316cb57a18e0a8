"""A text as batches of tokens, in two parts that never overlap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor

from come.errors import ComeError, is_panic, reason_of
from come.events import OnProgress, emit
from come.numbers import is_number
from come.text.documents import Split
from come.text.drawn_rows import is_drawn
from come.text.sampled import sampled
from come.text.sources import SELF, content, has_own_splits, short_name
from come.text.start import start_of_text

if TYPE_CHECKING:
    from come.models import Bundle

SPLITS: tuple[Split, ...] = get_args(Split)


def tokens(
    bundle: Bundle | Any,
    text: str | os.PathLike[str],
    n_tokens: int = 8192,
    seq_len: int = 512,
    split: Split = "calibration",
    seed: int = 0,
    on_progress: OnProgress = None,
    bos: str = "auto",
) -> Tensor:
    """Sequences drawn at random from one part of a text, without overlap.

    The first 80% of a text's tokens are its calibration part and the rest its evaluation part; `mix`, and a hub set
    that comes with a train and a test split, have parts of their own instead. A part is cut into blocks, and the blocks
    are drawn in an order that ``seed`` sets: packed, without padding.

    Each sequence of ``seq_len`` tokens begins as the model's tokenizer begins a text, with BOS for many models (``bos``
    says otherwise); the block behind it is as much shorter. No other special token is put.

    The text `self` is not drawn but sampled from the model (``come.text.sampled`` says how), its start of text and all
    that it says: another seed has it say something else. It begins with a start of text in any case.

    Rows that are drawn ("wikitext2:rows=256,seed=10") are cut into sequences in order, with one start of text before
    them all; ``n_tokens`` is the most that is taken, and another seed changes nothing.

    Args:
        bundle: a loaded model, or a tokenizer alone (not for `self`).
        text: a name of ``come.text.known_texts()``, or the path of a file (``come.text.content`` says of which kinds).
        n_tokens: how many tokens; rounded down to whole sequences.
        seq_len: tokens a sequence, at most what the model can read at once.
        split: "calibration" or "evaluation"; they never overlap. `self` has the first only.
        seed: draws the sequences.
        on_progress: told of the sampling of `self`, and in which form a file is read.
        bos: "auto": what the tokenizer puts before a text by itself; "always": its BOS token even where it puts none;
            "never": nothing.

    Returns:
        int64 (sequences, seq_len), on the CPU.

    Raises:
        ComeError: the text cannot be read or is too short, a number is out of range, or there is no BOS token.
    """
    tokenizer, longest = _tokenizer_and_limit(bundle)
    start = start_of_text(tokenizer, bos)
    for name, number in (("n_tokens", n_tokens), ("seq_len", seq_len), ("seed", seed)):
        if not is_number(number, whole=True):
            raise ComeError(f"{name} cannot be {str(number)[:40]}.", "Give a whole number.")
    _check(n_tokens, seq_len, split, longest, len(start))
    if os.fspath(text) == SELF and split == "calibration":
        return sampled(bundle, n_tokens // seq_len, seq_len, seed, on_progress, start)

    found = content(text, split, tokenizer)
    if found.form:
        emit(on_progress, "text", 0, 1, f"{short_name(os.fspath(text))} is read as {found.form}")
    encoded = _encoded(tokenizer, found.characters)
    ids = torch.tensor(encoded["input_ids"], dtype=torch.int64)
    if is_drawn(os.fspath(text)):
        return _in_order(torch.cat([torch.tensor(start, dtype=torch.int64), ids]), text, n_tokens, seq_len)
    part = ids if has_own_splits(text) else _part(ids, split)

    size = seq_len - len(start)
    blocks, wanted = len(part) // size, n_tokens // seq_len
    if blocks < wanted:
        raise _too_short(text, split, held=len(part), usable=blocks * seq_len, asked=n_tokens, seq_len=seq_len)
    drawn = torch.randperm(blocks, generator=torch.Generator().manual_seed(seed))[:wanted]
    return _begun(part, drawn * size, size, torch.tensor(start, dtype=torch.int64))


def _in_order(ids: Tensor, text: str | os.PathLike[str], n_tokens: int, seq_len: int) -> Tensor:
    """The sequences of a row of tokens one after the other, as many as there are whole ones, ``n_tokens`` at most."""
    count = min(len(ids), n_tokens) // seq_len
    if not count:
        raise _too_short(text, "calibration", held=len(ids), usable=0, asked=seq_len, seq_len=seq_len)
    return ids[: count * seq_len].view(count, seq_len)


def _encoded(tokenizer: Any, characters: str) -> Any:
    """A text as the tokenizer cuts it.

    Raises:
        ComeError: it gives up, as patterns that go back and forth do.
    """
    try:
        return tokenizer(characters, add_special_tokens=False, return_attention_mask=False, verbose=False)
    except BaseException as error:
        if not is_panic(error):
            raise
        what = f"The model's tokenizer gives up on this text ({reason_of(error)[:200]})."
        raise ComeError(what, "Choose another text; or the tokenizer is damaged.") from error


def _begun(part: Tensor, places: Tensor, size: int, start: Tensor) -> Tensor:
    """The blocks at some places of a text, each behind a start of text.

    Where the text has that start there itself, as a chat template may put it, it is not put again: the block ends as
    much later, and at the end of the text goes on with its beginning.

    Args:
        part: int64 (tokens,).
        places: of each block's first token, int64 (blocks,).
        size: tokens of a block.
        start: int64 (tokens,), maybe none.
    """
    begin = part[(places[:, None] + torch.arange(len(start))) % len(part)]
    there = (begin == start).all(1) & bool(len(start))
    text = places[:, None] + there[:, None] * len(start) + torch.arange(size)
    return torch.cat([start.expand(len(places), -1), part[text % len(part)]], 1)


def _tokenizer_and_limit(bundle: Any) -> tuple[Any, int | None]:
    """The tokenizer, and how many tokens the model reads at once (None: no model, or it does not say)."""
    if not hasattr(bundle, "tokenizer"):
        return bundle, None
    config = getattr(bundle.model, "config", None)
    return bundle.tokenizer, getattr(config, "max_position_embeddings", None)


def _check(n_tokens: int, seq_len: int, split: str, longest: int | None, start: int) -> None:
    if split not in SPLITS:
        raise ComeError(f"There is no part named '{split}'.", f"The parts of a text are {' and '.join(SPLITS)}.")
    if seq_len < 2:
        raise ComeError(f"A sequence needs at least 2 tokens, not {seq_len}.", "512 is a good length.")
    if seq_len <= start:
        raise ComeError(
            f"A sequence of {seq_len} tokens has no room for text: it begins with {start} that are none.",
            "512 is a good length.",
        )
    if longest is not None and seq_len > longest:
        raise ComeError(
            f"Sequences of {seq_len:,} tokens are longer than the {longest:,} that this model reads at once.",
            f"Ask for at most {longest:,}.",
        )
    if n_tokens < seq_len:
        raise ComeError(
            f"{n_tokens:,} tokens do not fill one sequence of {seq_len:,}.",
            "Ask for more tokens or shorter sequences.",
        )


def _part(ids: Tensor, split: Split) -> Tensor:
    border = len(ids) * 4 // 5
    return ids[:border] if split == "calibration" else ids[border:]


def _too_short(
    text: str | os.PathLike[str], split: Split, *, held: int, usable: int, asked: int, seq_len: int
) -> ComeError:
    fewer = f"Ask for at most {usable:,} tokens" if usable else "Ask for shorter sequences"
    return ComeError(
        f"The {split} part of '{os.fspath(text)}' holds {held:,} tokens, and {asked:,} "
        f"in sequences of {seq_len:,} were asked for.",
        f"{fewer}, or use a longer text.",
    )
