"""A what-if question: edits of an original model, and the text that they are evaluated on. Plain documents."""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from come.errors import ComeError
from come.numbers import out_of_bounds
from come.request import Bos


class Document(BaseModel):
    """A plain document: it does not change, and has no fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Merge(Document):
    """A window of original layers, ``first`` to ``last`` inclusive, that becomes one.

    Attributes:
        ratio: the share of each layer; None for the method's own (by block influence; equal weights in an average).
            Of a fit it is an outcome.
        how: "concatenate" the most sensitive units of each, "average" their parameters, or "fit" as CoMe-Joint does,
            channels chosen together and maps moved.
    """

    first: int
    last: int
    ratio: tuple[float, ...] | None = None
    how: Literal["concatenate", "average", "fit"] = "concatenate"


class Question(Document):
    """What if these edits were made? All of them in the numbering of the original model.

    Attributes:
        merges: windows that share no layer, lowest first.
        dropped: layers to take out, ascending.
        exponent, floor: CoMe's options for ratios that are not given.
    """

    merges: tuple[Merge, ...] = ()
    dropped: tuple[int, ...] = ()
    exponent: float = Field(default=1.0, ge=0)
    floor: float = Field(default=0.0, ge=0, le=1)

    @field_validator("merges")
    @classmethod
    def _lowest_first(cls, merges: tuple[Merge, ...]) -> tuple[Merge, ...]:
        return tuple(sorted(merges, key=lambda merge: (merge.first, merge.last)))

    @field_validator("dropped")
    @classmethod
    def _each_once(cls, dropped: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(sorted(set(dropped)))

    @property
    def touched(self) -> set[int]:
        """The original layers that it changes."""
        return {layer for merge in self.merges for layer in range(merge.first, merge.last + 1)} | set(self.dropped)

    @property
    def is_fitted(self) -> bool:
        """Whether calibration tokens are needed to answer it."""
        return any(merge.how == "fit" for merge in self.merges)

    def with_merge(self, merge: Merge) -> Question:
        """The question with one more window."""
        return Question(**{**dict(self), "merges": (*self.merges, merge)})


class Subject(Document):
    """Which model is asked about, and on which text.

    Attributes:
        model, device, dtype: as ``come.load`` takes them.
        text: whose evaluation part, held out from calibration, edited models are evaluated on; of `self`, the default
            text's.
        n_tokens, seq_len, evaluation_seed: how many tokens of it, in sequences of how many, drawn how. By default those
            that a run is judged on. The standard errors are over sequences.
        bos: what each sequence of the text begins with, as ``come.tokens`` takes it.
        analysis: the analysis.safetensors of a run, for the sensitivities that edits are made by; None to measure
            ``measured_tokens`` of the text's calibration part, drawn by ``seed``, once. Fits are made on these.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    text: str = "python-docs"
    n_tokens: int = Field(default=4096, ge=2)
    seq_len: int = Field(default=512, ge=2)
    evaluation_seed: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)
    bos: Bos = "auto"
    analysis: str | None = None
    measured_tokens: int = Field(default=4096, ge=2)
    measured_seq_len: int = Field(default=512, ge=2)

    def first_look(self) -> Subject:
        """The same on few tokens, which are soon read; in short sequences, for the error is over these."""
        return self.model_copy(update={"n_tokens": min(self.n_tokens, 1024), "seq_len": min(self.seq_len, 128)})


Kind = TypeVar("Kind", bound=BaseModel)


def parse(kind: type[Kind], values: Any) -> Kind:
    """A document from plain values.

    Raises:
        ComeError: they do not make one; the sentence says where it goes wrong.
    """
    if reason := out_of_bounds(values):
        raise ComeError(f"That cannot be asked: it {reason}.", "Check the values.")
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise ComeError(f"That cannot be asked: {where}: {first['msg']}.", "Check the values.") from error
