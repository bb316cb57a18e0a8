"""What a run is asked to do: one frozen document, checked before anything is made."""

from __future__ import annotations

import os
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from come.errors import ComeError, did_you_mean
from come.files import human_bytes
from come.numbers import out_of_bounds
from come.settings import expanded, file_and_column, rows_of

Dtype = Literal["float32", "bfloat16", "float16"]
Use = Literal["calibration", "recovery", "evaluation"]
Split = Literal["calibration", "evaluation"]
Bos = Literal["auto", "always", "never"]

CONTEXT = 2048  # tokens whose keys and values count as memory where nothing else is said
DEFAULT_TEXT = "python-docs"
BEFORE_BOS: Bos = "never"  # what a file or a link means that knows no such setting
SAMPLED = "self"  # as `come.text` calls it, which takes a second to import


def _told(default: Any, description: str, ge: int | None = None) -> Any:
    """A field that people fill in: what it is, as the command line's help says it, and the least it may be."""
    return Field(default=default, description=description, ge=ge)


class Asked(BaseModel):
    """What a request's layers were chosen for: notes for people, by which nothing is chosen again.

    Attributes:
        max_memory: at most so many bytes of weights, and of keys and values of ``context`` tokens.
        max_bytes: at most so many bytes of files with weights.
        speedup: at least so many times as fast.
        expected: how many times as fast a model of so many layers was expected to be.
        answer: what it came to, in a sentence.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    max_memory: int | None = None
    context: int = CONTEXT
    max_bytes: int | None = None
    speedup: float | None = None
    expected: float | None = None
    answer: str = ""

    @property
    def limits(self) -> str:
        """What was asked for: "at most 250 MiB of memory at a context of 2,048 tokens"."""
        wanted = []
        if self.max_memory is not None:
            wanted.append(f"at most {human_bytes(self.max_memory)} of memory at a context of {self.context:,} tokens")
        if self.max_bytes is not None:
            wanted.append(f"at most {human_bytes(self.max_bytes)} of files")
        if self.speedup is not None:
            wanted.append(f"{self.speedup:g} times the speed")
        return ", ".join(wanted)

    @property
    def sentence(self) -> str:
        """What was asked for, and what it came to."""
        return f"Asked for {self.limits}. {self.answer}"


class RunConfig(BaseModel):
    """The whole request of a run: what the page and the command line fill in, and what the run works from.

    Raises:
        ComeError: a field is unknown or its value is not one it can have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["compress", "analyze"] = "compress"
    name: str = _told("", "A name for the run, to know it by.")
    preset: str = _told(
        "",
        "Fill in what is not given: published, for CoMe and CoMe-P, is what their published program begins with. "
        "The request holds it plainly.",
    )
    sweep: str = ""  # the sweep that the run is a cell of, if it is one

    model: str = _told("smollm2-135m", "A name from `come models`, a folder, a .gguf, a hub id.")
    # One literal, not a union: what is refused is told all choices.
    dtype: Literal["auto", Dtype] = _told("auto", "auto (as stored), float32, bfloat16, float16.")
    device: str = _told("auto", "auto, cpu, cuda, cuda:1, mps; balanced: over all GPUs.")

    text: str = _told(
        DEFAULT_TEXT,
        "Calibration text: python-docs, mix (of kinds), self (sampled from the model), a hub set, or your own .txt, "
        ".jsonl, .json, .csv, .parquet: plain, chats or instructions; data.csv:body reads the column body.",
    )
    n_tokens: int = _told(4096, "How many calibration tokens.", ge=1)
    seq_len: int = _told(512, "Tokens in a sequence.", ge=2)
    bos: Bos = _told(
        "auto", "BOS before each sequence of any text: auto (where the tokenizer puts it before a text), always, never."
    )
    seed: int = _told(0, "Draws the sequences, and whatever a method draws.", ge=0)
    batch_size: int | None = _told(None, "Sequences at a time (else about 2,048 tokens).", ge=1)

    # What to prune, and how far.
    method: str = _told("", "A name of `come methods` (else CoMe-Joint; CoMe, if given options that only it has).")
    target_layers: int | None = _told(None, "Layers to be left.")
    sparsity: float | None = _told(None, "Or: the share of parameters to remove, such as 0.2.")
    asked: Asked | None = None  # what target_layers were chosen for, where they were
    options: dict[str, Any] = _told({}, "key=value, of the method; may be given several times.")
    windows_by_cost: bool = False  # a note: windows among the options are those that were measured to cost least

    # How to give the pruned model back what it lost.
    recover: list[str] = _told(
        [],
        "Give back what was lost: default, or ways that `come methods` lists at its end; several with commas.",
    )
    recover_options: dict[str, Any] = _told({}, "key=value of the ways of recovery, or way.key=value for one of them.")
    recover_text: str | None = _told(None, "Text to learn from (else --text).")
    recover_tokens: int = _told(65536, "How many tokens of it.", ge=2)

    # What to find out of the result.
    evaluate: list[Literal["ppl", "acc", "speed", "probe"]] = _told(
        ["ppl"],
        "What to measure of the result: any of ppl, acc, speed, probe (from which layers the tasks are read); or none.",
    )
    evaluation_text: str | None = _told(
        None, "Text for ppl (else the held-out part of --text, or of python-docs where that is self)."
    )
    evaluation_tokens: int = _told(4096, "How many tokens for it.", ge=1)
    evaluation_seed: int = Field(default=0, ge=0)  # apart from the seed, so that all are judged on the same text
    tasks: list[str] = _told(
        ["bundled"], "For acc and probe: bundled, mmlu_dev, any lm-eval task, your .jsonl; several with commas."
    )
    task_limit: int | None = _told(None, "Items of each task (else all).", ge=1)

    # What to keep of it.
    keep_model: bool = True
    save_dtype: Dtype | None = _told(None, "Save the model in float32, bfloat16 or float16 (else as --dtype).")

    # What an analysis takes in.
    similarity: tuple[Literal["cosine", "angular", "cka"], ...] = _told(
        ("cosine", "angular", "cka"), "Which matrices: any of cosine,angular,cka."
    )
    span: int = _told(2, "Layers in a window of the skip block influence.", ge=2)
    sbi_tokens: Literal["all", "last"] = _told("all", "Skip block influence over all tokens, or each sequence's last.")
    last_state: Literal["normed", "raw"] = _told("normed", "The last hidden state: normed or raw.")

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, values: Any, handler: ModelWrapValidatorHandler[RunConfig]) -> RunConfig:
        for name, value in values.items() if isinstance(values, dict) else ():
            if reason := out_of_bounds(value):
                raise ComeError(f"The setting {str(name)[:80]} {reason}.")
        if isinstance(values, dict) and values.get("preset"):
            from come.pruning.presets import with_preset

            values = with_preset(values, str(values["preset"])[:80])
        if isinstance(values, dict) and not values.get("method"):
            from come.pruning.registry import method_for  # which loads torch

            given = values.get("options")
            values = values | {"method": method_for(given if isinstance(given, dict) else ())}
        try:
            return handler(values)
        except ValidationError as error:
            raise _sentence(error) from None

    @classmethod
    def stored(cls, values: dict[str, Any]) -> RunConfig:
        """A request as a file holds it; those from before ``bos`` had none.

        Raises:
            ComeError: as for a request.
        """
        return cls.model_validate({"bos": BEFORE_BOS} | values)

    @property
    def evaluated_on(self) -> str:
        """The text that perplexities are taken on."""
        return self.evaluation_text or judged_on(self.text)

    @property
    def recovered_on(self) -> str:
        """The text that a recovery learns from."""
        return self.recover_text or self.text

    @property
    def uses(self) -> list[Use]:
        """What the run takes texts for."""
        asked: dict[Use, bool] = {
            "calibration": True,
            "recovery": self.kind == "compress" and bool(self.recover),
            "evaluation": self.kind == "compress" and "ppl" in self.evaluate,
        }
        return [use for use, wanted in asked.items() if wanted]

    @property
    def asks_questions(self) -> bool:
        """Whether the run needs its tasks."""
        return not {"acc", "probe"}.isdisjoint(self.evaluate)

    def text_of(self, use: Use) -> tuple[str, int, Split, int]:
        """The text of a use, how many tokens of it, of which part, and the seed that draws them."""
        if use == "calibration":
            return self.text, self.n_tokens, "calibration", self.seed
        if use == "recovery":
            return self.recovered_on, self.recover_tokens, "calibration", self.seed
        return self.evaluated_on, self.evaluation_tokens, "evaluation", self.evaluation_seed


def judged_on(text: str) -> str:
    """The text whose held-out part judges what was calibrated on a text, where none is named: the same one.

    What a model says itself judges nothing, nor does a file of which rows were drawn anywhere: there it is the default
    text. Sets of the hub have a part of their own to judge on.
    """
    drawn = rows_of(text)
    if drawn is not None:
        return DEFAULT_TEXT if os.path.exists(expanded(drawn[0])) else drawn[0]
    return DEFAULT_TEXT if text == SAMPLED else text


def checked(config: RunConfig) -> tuple[RunConfig, int | None]:
    """The request with its paths made absolute, and the layers that will be left (None for an analysis).

    Looks at the model's config and at the user's own texts; loads no weights and fetches no data.

    Raises:
        ComeError: the run could not succeed: no such model or text, an unsupported family, a target out of
            reach, options that the method does not have.
    """
    from come.measurement.measure import check_rules
    from come.models import describe
    from come.pruning.compress import check_request

    config = anchored(config)
    facts = describe(config.model)
    if not facts.supported:
        raise ComeError(facts.reason or f"{config.model} is not supported.")
    for text in {config.text, config.recovered_on}:
        _check_text(text, "calibration")
    _check_text(config.evaluated_on, "evaluation")
    if config.recover:
        from come.pruning.registry import method
        from come.recovery.registry import parse

        known = method(config.method)
        for way, _ in parse(config.recover, config.recover_options):
            if config.kind == "compress" and way.after and known.kind not in way.after:
                what = f"{way.title} takes models that only lost layers, and {known.title} changes some."
                raise ComeError(what, f"Prune by removal, or leave {way.name} out of --recover.")
    if config.asks_questions:
        from come.evaluate import check_tasks

        check_tasks(config.tasks)
    if config.kind == "analyze":
        check_rules(config.span, facts.layers, config.sbi_tokens, config.last_state)
        return config, None
    sequences = config.n_tokens // config.seq_len
    target = check_request(facts, config.method, config.target_layers, config.sparsity, config.options, sequences)
    return config, target


def anchored(config: RunConfig) -> RunConfig:
    """The request with the user's paths made absolute, so that it means the same from any folder."""
    evaluation_text = config.evaluation_text and anchored_text(config.evaluation_text)
    recover_text = config.recover_text and anchored_text(config.recover_text)
    return config.model_copy(
        update={
            "model": anchored_path(config.model),
            "text": anchored_text(config.text),
            "evaluation_text": evaluation_text,
            "recover_text": recover_text,
            "tasks": [anchored_path(task) for task in config.tasks],
        }
    )


def anchored_path(name: str) -> str:
    """The absolute path of a file or folder that exists; any other name (known, or a hub id) as it is."""
    path = expanded(name)
    if name in _reserved_names() or not name.strip() or not os.path.exists(path):
        return name
    return str(path.resolve())


def anchored_text(name: str) -> str:
    """The same of a text, of which a column may be named behind its file."""
    file, column = file_and_column(name)
    path = anchored_path(file)
    return f"{path}:{column}" if column else path


def _reserved_names() -> set[str]:
    """Names that mean something bundled, whatever lies in the working directory."""
    from come.models.catalogue import BUNDLED
    from come.text import known_texts

    return {BUNDLED, *(source.name for source in known_texts())}


def _check_text(text: str, split: Split) -> None:
    from come.text import known_texts, read

    fetched = {
        source.name for source in known_texts() if source.where == "hub"
    }  # by the run itself, as `self` is sampled
    drawn = rows_of(text)
    if (drawn[0] if drawn else text) not in fetched and (text, split) != (SAMPLED, "calibration"):
        read(text, split)  # raises what is wrong with it


def _sentence(error: ValidationError) -> ComeError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][:1]) or "request"
    if first["type"] == "extra_forbidden":
        return ComeError(f"A run has no setting {field!r}.", did_you_mean(field, RunConfig.model_fields))
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return ComeError(f"The setting {field} cannot be {repr(first['input'])[:80]}: {reason}.")
