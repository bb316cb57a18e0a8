"""`self`: what a model says itself, sampled from it at temperature 1, so that calibration needs no corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from come import settings
from come.errors import ComeError
from come.events import OnProgress, emit
from come.files import written_whole
from come.models import Bundle
from come.models.identity import identity
from come.models.not_finite import why_not_finite
from come.models.offload import input_device, is_offloaded
from come.text.mix import pieces

PROMPT_TOKENS = 8  # at most, of every other sequence
PROMPT_CHARACTERS = 200  # that those are taken from
AT_ONCE, CACHE_BYTES = (
    32,
    2 << 30,
)  # sequences that are written side by side, and bytes of their keys and values, at most
LOOK = 8  # tokens between two events
FREE = -1  # in a plan of sequences: a token to be sampled


def sampled(
    bundle: Bundle | Any,
    sequences: int,
    seq_len: int,
    seed: int = 0,
    on_progress: OnProgress = None,
    start: Sequence[int] = (),
) -> Tensor:
    """Sequences that a model writes, int64 (sequences, seq_len), on the CPU; kept in ``COME_HOME`` for another time.

    Each begins with a start of text: the one given, else the tokenizer's BOS token; where that has none, the EOS token,
    which parts documents; where that is missing too, a prompt alone. Every other one goes on with a prompt: the first
    tokens of a piece of `mix`. All further tokens are drawn from the model's predictions as they are: temperature 1, no
    top-k, no top-p. A sequence goes on behind an end of text, as the packed text that models are trained on does.

    The same model, dtype and seed give the same tokens; another seed gives other text, not other parts of one.

    Args:
        bundle: the model; it is not changed.
        sequences, seq_len: how much to write; the first ones of more are as these, but for rounding.
        seed: draws the prompts and the tokens.
        on_progress: told of every few tokens, so that it can be cancelled.
        start: the tokens that each begins with; none for those above.

    Raises:
        ComeError: there is no model, it lies partly outside of memory, or its predictions are no numbers.
    """
    _check(bundle)
    plan, draws = _planned(bundle.tokenizer, sequences, seq_len, seed, start)
    key = repr((*identity(bundle), plan.tolist(), seq_len, seed, AT_ONCE, CACHE_BYTES))
    path = settings.home() / "sampled" / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"
    with suppress(OSError, SafetensorError, KeyError):
        kept: Tensor = load_file(path)["tokens"]
        return kept
    written = write(bundle, plan, draws, on_progress)
    with suppress(OSError, ComeError, SafetensorError):  # what cannot be kept is written again another time
        _keep(written, path)
    return written


def at_once(layers: int, kv_heads: int, head_dim: int, seq_len: int, itemsize: int) -> int:
    """How many sequences are written side by side: their keys and values have to fit ``CACHE_BYTES``."""
    return max(1, min(AT_ONCE, CACHE_BYTES // max(1, 2 * layers * kv_heads * head_dim * seq_len * itemsize)))


def _check(bundle: Any) -> None:
    if not isinstance(bundle, Bundle):
        raise ComeError(
            "The text 'self' is what a model says, and a tokenizer alone says nothing.",
            "Hand in the loaded model (come.load), or choose another text.",
        )
    if is_offloaded(bundle.model):
        raise ComeError(
            "A model that lies partly outside of memory is too slow to sample text from: each token fetches all of it.",
            "Choose another text, such as mix, or load it in a smaller dtype.",
        )


def _planned(
    tokenizer: Any, sequences: int, seq_len: int, seed: int, start: Sequence[int] = ()
) -> tuple[Tensor, Tensor]:
    """How each sequence of `self` begins, and its draws (see ``planned``)."""
    prompts = [piece for _, piece in pieces("calibration")]
    return planned(
        tokenizer, lambda drawn: _first_tokens(tokenizer, prompts[drawn]), len(prompts), sequences, seq_len, seed, start
    )


def planned(
    tokenizer: Any,
    prompt: Callable[[int], Sequence[int]],
    prompts: int,
    sequences: int,
    seq_len: int,
    seed: int,
    start: Sequence[int] = (),
) -> tuple[Tensor, Tensor]:
    """How each sequence begins, and a draw for each of its tokens; of more sequences, the first ones are the same.

    Args:
        tokenizer: tells the start of text where none is given.
        prompt: gives the tokens of one of so many ``prompts``, of which at most ``PROMPT_TOKENS`` are taken.
        prompts: how many there are.
        sequences, seq_len, seed, start: as for ``sampled``.

    Returns:
        int64 (sequences, at most the start's and PROMPT_TOKENS), given tokens and then ``FREE`` ones; float64
        (sequences, seq_len).
    """
    known = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    begin = [*start] or ([] if known is None else [known])
    generator = torch.Generator().manual_seed(seed)
    plan = torch.full((sequences, max(1, len(begin)) + PROMPT_TOKENS), FREE)
    draws = torch.empty(sequences, seq_len, dtype=torch.float64)
    for place in range(sequences):
        drawn = int(torch.randint(prompts, (), generator=generator))
        draws[place] = torch.rand(seq_len, dtype=torch.float64, generator=generator)
        given = list(begin)
        if place % 2 or not begin:
            given += prompt(drawn)[:PROMPT_TOKENS]
        plan[place, : max(1, len(given))] = torch.tensor(given or [0])
    return plan[:, :seq_len], draws


def _first_tokens(tokenizer: Any, text: str) -> Sequence[int]:
    encoded = tokenizer(text[:PROMPT_CHARACTERS], add_special_tokens=False, verbose=False)
    return list(encoded["input_ids"])


def write(bundle: Bundle, plan: Tensor, draws: Tensor, on_progress: OnProgress = None) -> Tensor:
    """The sequences that begin as planned (``planned``), and go on as a model says; int64 (sequences, seq_len).

    Raises:
        ComeError: the model's values are not finite.
    """
    shape, (sequences, seq_len) = bundle.shape, draws.shape
    rows = at_once(shape.layers, shape.kv_heads, shape.head_dim, seq_len, bundle.dtype.itemsize)
    written = torch.empty(sequences, seq_len, dtype=torch.int64)
    message = f"Sampling {sequences} sequences from the model"
    emit(on_progress, "text", 0, written.numel(), message)
    for first in range(0, sequences, rows):
        some = slice(first, first + rows)
        done, side_by_side = first * seq_len, len(plan[some])
        for position, tokens in enumerate(_side_by_side(bundle, plan[some], draws[some]), start=1):
            written[some, position - 1] = tokens
            if position % LOOK == 0 or position == seq_len:
                emit(on_progress, "text", done + position * side_by_side, written.numel(), message)
    return written


def _side_by_side(bundle: Bundle, plan: Tensor, draws: Tensor) -> Iterator[Tensor]:
    """The tokens of sequences, position by position, int64 (sequences,) each.

    Args:
        bundle: the model.
        plan: how they begin, (sequences, positions); at least their first tokens.
        draws: a number from 0 to 1 for every token, (sequences, tokens).

    Raises:
        ComeError: the model's values are not finite.
    """
    device, known, cache = input_device(bundle.model), len(bundle.tokenizer), None
    tokens = plan[:, 0]
    said = [tokens]
    yield tokens
    for position in range(1, draws.shape[1]):
        with torch.no_grad():  # not inference_mode: a recovery trains on these tokens
            output = bundle.model(tokens[:, None].to(device), past_key_values=cache, use_cache=True)
        cache = output.past_key_values
        logits = output.logits[:, -1, :known]
        if not bool((logits < torch.inf).all()):  # a chance of none, -inf, is one
            raise why_not_finite(bundle, torch.stack(said, 1))
        tokens = _drawn(logits, draws[:, position])
        if position < plan.shape[1]:
            tokens = torch.where(plan[:, position] == FREE, tokens, plan[:, position])
        said.append(tokens)
        yield tokens


def _drawn(logits: Tensor, draws: Tensor) -> Tensor:
    """The token of each row at which the sum of the chances before passes the draw, int64 (rows,), on the CPU.

    Args:
        logits: (rows, vocabulary), finite or -inf.
        draws: (rows,), float64, from 0 to 1.
    """
    logits = (logits if logits.is_cuda else logits.cpu()).double()
    sums = logits.softmax(-1).cumsum(-1)
    wanted = draws.to(sums.device)[:, None] * sums[:, -1:]
    return torch.searchsorted(sums, wanted, right=True)[:, 0].clamp(max=sums.shape[1] - 1).cpu()


def _keep(tokens: Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        save_file({"tokens": tokens}, temporary)
