"""Generation by an original and its pruned models from one prompt, token by token and side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from come.errors import ComeError, reason_of
from come.models import Bundle
from come.models.not_finite import why_not_finite
from come.models.offload import input_device
from come.serving.cancellation import Cancel, never, stop_if
from come.serving.playground.speech import End, Parting, Said, Sampling, Start, Top, Word
from come.text.apart import Refused
from come.text.chat import chosen_template, through_template


def generate(
    models: Mapping[str, Bundle],
    prompt: str,
    sampling: Sampling | None = None,
    *,
    chat: bool | None = None,
    cancelled: Cancel = never,
) -> Iterator[Said]:
    """What each model goes on with: first a Start, then in turn one Word a model, and an End for each.

    A Parting tells where a model first writes another token than the first of the models.

    Args:
        models: by name, the original first; all of one tokenizer.
        prompt: what to go on from.
        sampling: how; the likeliest token every time by default.
        chat: whether the prompt is put as a user's turn by the tokenizer's chat template; None: where it has one.
        cancelled: asked before every token.

    Raises:
        ComeError: the prompt is empty or too long, there is no chat template, or a model's values are not finite.
        Cancelled: it was wanted.
    """
    sampling = sampling or Sampling()
    first = next(iter(models.values()))
    text, ids, templated = prompt_ids(first.tokenizer, prompt, chat)
    check_length(models, len(ids), sampling.new_tokens)
    yield Start(text, len(ids), templated)
    speakers = [_Speaker(name, bundle, ids, sampling) for name, bundle in models.items()]
    parted: set[str] = set()
    for position in range(sampling.new_tokens):
        for speaker in speakers:
            if not speaker.ended:
                stop_if(cancelled)
                yield speaker.speak()
        for speaker in speakers[1:]:
            ours, theirs = speaker.said(position), speakers[0].said(position)
            if ours != theirs and speaker.name not in parted:
                parted.add(speaker.name)
                yield Parting(speaker.name, position, ours, theirs)
        for speaker in speakers:
            if (end := speaker.end()) is not None:
                yield end
        if all(speaker.ended for speaker in speakers):
            return


def prompt_ids(tokenizer: Any, prompt: str, chat: bool | None) -> tuple[str, list[int], bool]:
    """The prompt as a model reads it: its text, its tokens, and whether the chat template was used.

    Raises:
        ComeError: it is empty, or there is no chat template.
    """
    has_template = bool(getattr(tokenizer, "chat_template", None))
    if chat and not has_template:
        raise ComeError("This model has no chat template.", "Give the prompt as plain text.")
    if not prompt.strip():
        raise ComeError("The prompt is empty.", "Write a few words for the models to go on from.")
    templated = has_template if chat is None else chat
    text = prompt
    if templated:
        turns = [{"role": "user", "content": prompt}]
        try:
            text = through_template(tokenizer, turns, chosen_template(tokenizer), add_generation_prompt=True)
        except Refused as error:
            raise ComeError(
                f"The model's chat template refuses the prompt ({reason_of(error)}).", "Give it as plain text."
            ) from error
    # A template writes the special tokens itself.
    ids: list[int] = tokenizer(text, add_special_tokens=not templated, verbose=False)["input_ids"]
    return text, ids, templated


def check_length(models: Mapping[str, Bundle], prompt_tokens: int, new_tokens: int = 0) -> None:
    """Refuse more tokens than the models read at once.

    Raises:
        ComeError: they are too many.
    """
    for bundle in models.values():
        longest = getattr(bundle.model.config, "max_position_embeddings", None)
        if longest is not None and prompt_tokens + new_tokens > longest:
            raise ComeError(
                f"The prompt's {prompt_tokens:,} tokens and {new_tokens:,} new ones are more than the {longest:,} that "
                "this model reads at once.",
                "Shorten the prompt, or ask for fewer tokens.",
            )


def likeliest(tokenizer: Any, chances: Tensor, count: int) -> Top:
    """The likeliest tokens of next-token chances, (vocabulary,), best first: id, text, chance."""
    if not count:
        return ()
    values, tokens = chances.topk(min(count, len(chances)))
    return tuple(
        (token, str(tokenizer.decode([token])), chance)
        for token, chance in zip(tokens.tolist(), values.tolist(), strict=True)
    )


class Pieces:
    """Text out of tokens as they come: a character that takes several tokens appears with the last of them."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self.text = ""

    def add(self, token: int, skip_special: bool = True) -> str:
        """What one more token adds to the text."""
        self._ids.append(token)
        text = str(
            self._tokenizer.decode(self._ids, skip_special_tokens=skip_special, clean_up_tokenization_spaces=False)
        )
        if text.endswith("\ufffd"):
            return ""
        piece = text[len(self.text) :]
        self.text = text
        return piece


class _Speaker:
    """One model with its KV cache and what it has written."""

    def __init__(self, name: str, bundle: Bundle, prompt: list[int], sampling: Sampling) -> None:
        self.name = name
        self.ended = False
        self._bundle = bundle
        self._sampling = sampling
        self._generator = torch.Generator().manual_seed(sampling.seed)
        self._device = input_device(bundle.model)
        self._prompt = prompt
        self._next = torch.tensor([prompt], device=self._device)
        self._cache: Any = None
        self._written: list[int] = []
        self._pieces = Pieces(bundle.tokenizer)
        self._stops = _stop_tokens(bundle)
        self._first_seconds = 0.0
        self._later_seconds = 0.0
        self._told_end = False

    def said(self, position: int) -> int | None:
        """The token that it wrote at a position; None where it had ended before."""
        return self._written[position] if position < len(self._written) else None

    @torch.inference_mode()
    def speak(self) -> Word:
        """Write one more token."""
        began = time.perf_counter()
        # Of a prompt, only the last position's logits are wanted.
        output = self._bundle.model(self._next, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = output.past_key_values
        logits: Tensor = output.logits[0, -1].float().cpu()
        chances = logits.softmax(-1)
        if not bool(chances.isfinite().all()):
            raise why_not_finite(self._bundle, torch.tensor([[*self._prompt, *self._written]]))
        token = choose(logits, self._sampling, self._generator)
        self._next = torch.tensor([[token]], device=self._device)
        seconds = time.perf_counter() - began
        if self._written:
            self._later_seconds += seconds
        else:
            self._first_seconds = seconds
        self._written.append(token)
        return Word(
            model=self.name,
            position=len(self._written) - 1,
            token=token,
            text=self._pieces.add(token),
            chance=float(chances[token]),
            top=likeliest(self._bundle.tokenizer, chances, self._sampling.top),
            tokens_per_second=self._rate(),
        )

    def end(self) -> End | None:
        """How it has ended, once."""
        stopped = bool(self._written) and self._written[-1] in self._stops
        if self._told_end or not (stopped or len(self._written) == self._sampling.new_tokens):
            return None
        self.ended = self._told_end = True
        self._cache = None
        return End(
            model=self.name,
            reason="stop" if stopped else "length",
            tokens=len(self._written),
            text=self._pieces.text,
            first_token=self._first_seconds,
            tokens_per_second=self._rate(),
        )

    def _rate(self) -> float:
        return (len(self._written) - 1) / self._later_seconds if self._later_seconds else float("nan")


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """The next token, by logits (vocabulary,) float32 on the CPU.

    A draw is the token with the largest chance over exponential noise. Generators of one seed give all models the same
    noise, so that models of nearly the same chances draw the same token.
    """
    if sampling.temperature == 0:
        return int(logits.argmax())
    chances = (logits / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        ordered, tokens = chances.sort(descending=True, stable=True)
        chances[tokens[ordered.cumsum(0) - ordered >= sampling.top_p]] = 0
    noise = torch.empty_like(chances).exponential_(generator=generator)
    return int((chances / noise).argmax())


def _stop_tokens(bundle: Bundle) -> set[int]:
    """The tokens that end a text, by the model's and the tokenizer's own word."""
    stops = getattr(bundle.model.generation_config, "eos_token_id", None)
    found = set(stops) if isinstance(stops, list | tuple) else {stops}
    return {int(token) for token in (*found, bundle.tokenizer.eos_token_id) if token is not None}
