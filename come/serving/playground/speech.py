"""What a playground streams, as plain values: the prompt, each generated token, where models part, how each ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import Field

from come.serving.whatif.question import Document

Top = tuple[tuple[int, str, float], ...]
"""The likeliest next tokens, best first: id, text, chance."""


class Sampling(Document):
    """How tokens are chosen.

    Attributes:
        new_tokens: at most how many.
        temperature: 0 for the likeliest token every time.
        top_p: draw from the fewest tokens whose chances, after the temperature, add up to this.
        seed: every model meets the same random numbers, so that they part only where their chances differ.
        top: how many of the likeliest next tokens to tell with each.
    """

    new_tokens: int = Field(default=64, ge=1)
    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = Field(default=0, ge=0)
    top: int = Field(default=0, ge=0, le=100)


@dataclass(frozen=True)
class Start:
    """The prompt as the models read it: its text, with the chat template if there is one, and its tokens."""

    prompt: str
    tokens: int
    chat: bool


@dataclass(frozen=True)
class Word:
    """A token that a model wrote.

    Attributes:
        model: its name. position: 0 for the first new token.
        text: what it adds to the text; "" within a character that takes several tokens, and for the end.
        chance: what the model gave it, before temperature and top_p.
        top: the likeliest tokens there, as many as were asked for.
        tokens_per_second: of this model so far, after its first new token; nan before.
    """

    model: str
    position: int
    token: int
    text: str
    chance: float
    top: Top
    tokens_per_second: float


@dataclass(frozen=True)
class Parting:
    """Where a model first wrote another token than the first model: both tokens, None for one that had ended."""

    model: str
    position: int
    token: int | None
    instead_of: int | None


@dataclass(frozen=True)
class End:
    """A model has ended: by itself ("stop") or because it had written enough ("length").

    Attributes:
        first_token: seconds to read the prompt and write the first token.
        tokens_per_second: of those after it.
    """

    model: str
    reason: str
    tokens: int
    text: str
    first_token: float
    tokens_per_second: float


Said = Start | Word | Parting | End
_KINDS: dict[str, type[Any]] = {kind.__name__.lower(): kind for kind in (Start, Word, Parting, End)}


def to_dict(said: Said) -> dict[str, Any]:
    """As JSON-ready values."""
    return {"kind": type(said).__name__.lower(), **asdict(said)}


def from_dict(values: dict[str, Any]) -> Said:
    """Back from ``to_dict``."""
    fields = dict(values)
    kind = _KINDS[fields.pop("kind")]
    if "top" in fields:
        fields["top"] = tuple((int(token), str(text), float(chance)) for token, text, chance in fields["top"])
    return kind(**fields)  # type: ignore[no-any-return]


class Along(Document):
    """Models along a given text.

    Attributes:
        tokens, pieces: the text's tokens, and what each adds to the text.
        chances: by model, the chance that it gave each token but the first.
        kl: by pruned model, after each token, the divergence of its next-token chances from the original's, in nats.
        at: after which token ``top`` looks: by model, the likeliest tokens there.
        spans: by pruned model, for each of its layers the original's in whose place it is: the first, and the one after
            the last.
        angles: by pruned model, (layers, tokens), degrees between its hidden state after a layer and the original's
            after the last layer of the span.
    """

    tokens: tuple[int, ...]
    pieces: tuple[str, ...]
    chances: dict[str, tuple[float, ...]]
    kl: dict[str, tuple[float, ...]]
    at: int
    top: dict[str, Top]
    spans: dict[str, tuple[tuple[int, int], ...]] = Field(default_factory=dict)
    angles: dict[str, tuple[tuple[float, ...], ...]] = Field(default_factory=dict)


def begins_at(pieces: Sequence[str], words: str) -> int:
    """The token of a text that these words of it begin with; 0 where they are not found."""
    begins, read = "".join(pieces).find(words.strip()), 0
    for place, piece in enumerate(pieces):
        read += len(piece)
        if read > begins >= 0:
            return place
    return 0
