"""What results.json may hold, by kinds and ranges."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, model_validator

from come.runs.state import Count

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]  # "true" is none
Positive = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
Unit = Annotated[float, Field(strict=True, ge=0, le=1)]
Layer = Annotated[int, Field(ge=0, lt=100_000)]
Name = Annotated[str, Field(max_length=4096)]
Answers = Annotated[str, Field(max_length=1 << 20, pattern="^[01]*$")]  # a sign for each question: right or wrong


class _Part(BaseModel):
    """Part of results.json; what this version does not know is let pass."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)


class _Speed(_Part):
    prefill_tokens_per_second: Positive
    decode_tokens_per_second: Positive
    time_to_first_token: Positive
    weights_bytes: Positive
    peak_memory_bytes: Positive
    device: Name
    prompt_tokens: Count | None = None
    new_tokens: Count | None = None
    batch_size: Count | None = None


class _Share(_Part):
    value: Number | None = None
    stderr: Number | None = None


class _Probe(_Part):
    """Of one task (``come.evaluate.Probe``)."""

    weights: Annotated[list[Unit], Field(min_length=2, max_length=100_001)]
    gamma: Positive
    accuracy: Unit
    stderr: Positive
    last_accuracy: Unit
    last_stderr: Positive
    gain: Annotated[float, Field(strict=True, ge=-1, le=1)]
    gain_stderr: Positive
    chance: Unit
    train: Count
    held_out: Count
    hits: Answers
    last_hits: Answers

    @model_validator(mode="after")
    def _whole(self) -> _Probe:
        if abs(sum(self.weights) - 1) > 1e-3:
            raise ValueError("the weights of a probe add up to 1")
        if not len(self.hits) == len(self.last_hits) == self.held_out:
            raise ValueError("a probe tells of each question that was held out")
        return self


class _Model(_Part):
    layers: Layer
    parameters: Annotated[int, Field(ge=1, lt=2**53)]
    bytes: Count
    perplexity: Positive | None = None
    kl: Number | None = None
    bits_per_byte: Number | None = None
    accuracy: dict[Name, dict[Name, Number]] = {}
    retention: dict[Name, _Share] = {}
    stability: dict[Name, _Share] = {}
    spreads: dict[Name, list[Positive]] = {}
    speed: _Speed | None = None
    losses: list[Number] = []
    divergences: list[Number] = []
    hits: dict[Name, Answers] = {}
    questions: dict[Name, Name] = {}
    probe: dict[Name, _Probe] = {}

    @model_validator(mode="after")
    def _scored(self) -> _Model:
        if any(not {"items", "chance"} <= scores.keys() for scores in self.accuracy.values()):
            raise ValueError("the accuracy of a task comes with its items and chance")
        if any(len(probe.weights) != self.layers + 1 for probe in self.probe.values()):
            raise ValueError("a probe has a weight for the embeddings and for each layer")
        return self


class _Record(_Part):
    """A step of a method (``come.pruning.result.StepRecord``)."""

    model_config = ConfigDict(extra="forbid")

    window: tuple[Layer, Layer]
    ratio: list[Number]
    block_influence: list[Number]
    skip_influence: list[Number]
    seconds: Positive = 0.0
    refit: tuple[Number, Number] | None = None
    measured: tuple[Layer, Layer] | None = None
    scores: list[Number | None] = []
    scored_by: Name = ""

    @model_validator(mode="after")
    def _in_order(self) -> _Record:
        if any(first > last for first, last in (self.window, self.measured or self.window)):
            raise ValueError("a window ends before it begins")
        if self.scores and len(self.scores) <= (self.measured or self.window)[0]:
            raise ValueError("the window of a step is not among its scores")
        return self


class _Text(_Part):
    text: Name = ""
    form: Name = ""
    text_hash: Name | None = None
    n_tokens: Count | None = None
    seq_len: Count | None = None
    seed: int | None = None
    bos: Name | None = None


class _Results(_Part):
    original: _Model | None = None
    pruned: _Model | None = None
    unrecovered: _Model | None = None
    calibration: _Text | None = None
    recovery: _Text | None = None
    evaluation: _Text | None = None
    not_probed: dict[Name, Name] = {}  # by task, why
    history: Annotated[list[_Record], Field(max_length=10_000)] | None = None
    seconds: dict[Name, Positive] = {}
    versions: dict[Name, Name] = {}
    device: Name | None = None
    dtype: Name | None = None
    model_folder: Name | None = None
    model_files: dict[Name, Name] = {}  # SHA-256 of the kept model's, by name
    plan: Name = ""  # SHA-256 of plan.json at the end
    request: Name = ""  # of which request these are the results, by ``request_id``


KIND: TypeAdapter[_Results] = TypeAdapter(_Results)
