"""An engine's tokens beside the model's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

import come
from come.engines.run import Written, engine_named
from come.errors import ComeError, reason_of
from come.models import Bundle

PROMPTS = (
    "The capital of France is",
    "A list of prime numbers: 2, 3, 5, 7,",
    "def mean(values):\n    ",
    "Water boils when",
)
NEW_TOKENS = 32
TIE = 0.1  # nats between two tokens that rounding may exchange


@dataclass(frozen=True)
class Compared:
    """One prompt.

    Attributes:
        prompt: its text.
        prompt_alike: whether the engine cuts it into the same tokens.
        alike: how many tokens in a row are the same, of ``count``.
        gap: at the first that differs, how much likelier (nats) the model's own token is, by the model itself; 0 where
            none differs.
        said: what the engine wrote.
    """

    prompt: str
    prompt_alike: bool
    alike: int
    count: int
    gap: float
    said: str

    @property
    def agrees(self) -> bool:
        """Whether the engine runs this model: the same tokens, or other ones from where two were as good as level."""
        return self.prompt_alike and self.gap <= TIE


@dataclass(frozen=True)
class Checked:
    """What a check found, prompt by prompt."""

    engine: str
    version: str
    prompts: list[Compared]

    @property
    def agrees(self) -> bool:
        """Whether all prompts do."""
        return all(each.agrees for each in self.prompts)


def check(
    place: str | os.PathLike[str], engine: str, prompts: Sequence[str] = PROMPTS, new_tokens: int = NEW_TOKENS
) -> Checked:
    """Have an engine write on greedily from prompts, and compare that with what the model says here.

    Args:
        place: a folder that Transformers loads, or a .gguf file.
        engine: one of ``ENGINES``.
        prompts: texts to go on from.
        new_tokens: how many tokens of each.

    Raises:
        ComeError: the model cannot be loaded, the engine is not here, or it does not take the model.
    """
    from importlib.metadata import version

    chosen, path = engine_named(engine), Path(place).expanduser()
    bundle = come.load(path)  # which says in a sentence what is wrong with it
    try:
        written = chosen.write(path, prompts, new_tokens)
    except ComeError:
        raise
    except Exception as error:  # an engine's own, of whatever kind
        raise ComeError(
            f"{engine} does not run {path}: {reason_of(error)[:300]}.", "Its log above may say more."
        ) from error
    compared = [_compared(bundle, prompt, each) for prompt, each in zip(prompts, written, strict=True)]
    return Checked(engine, version(chosen.package), compared)


@torch.inference_mode()
def _compared(bundle: Bundle, prompt: str, written: Written) -> Compared:
    """The engine's tokens, each beside the likeliest after all before it: one pass tells of all places."""
    tokenizer, count = bundle.tokenizer, len(written.tokens)
    ids = [int(each) for each in tokenizer(prompt)["input_ids"]]
    said = tokenizer.decode(written.tokens)
    if ids != written.prompt or not count:
        return Compared(prompt, ids == written.prompt, 0, count, 0.0, said)
    sequence = torch.tensor([[*ids, *written.tokens]], device=bundle.model.device)
    logits = bundle.model(sequence, use_cache=False).logits[0, len(ids) - 1 : -1].float()
    chances = logits.log_softmax(-1)
    taken = chances.gather(1, torch.tensor(written.tokens, device=chances.device)[:, None])[:, 0]
    gaps = chances.max(-1).values - taken
    differing = (gaps > 0).nonzero()
    if not len(differing):
        return Compared(prompt, True, count, count, 0.0, said)
    first = int(differing[0])
    return Compared(prompt, True, first, count, float(gaps[first]), said)
