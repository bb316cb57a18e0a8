"""What a run is asked to do: one frozen document, checked before anything is made."""

from __future__ import annotations

import difflib
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

from come.errors import ComeError
from come.paths import expanded

Dtype = Literal["float32", "bfloat16", "float16"]
Use = Literal["calibration", "recovery", "evaluation"]
Split = Literal["calibration", "evaluation"]


class RunConfig(BaseModel):
    """The whole request of a run: what the page and the command line fill in, and what the run works from.

    Raises:
        ComeError: a field is unknown or its value is not one it can have.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["compress", "analyze"] = "compress"
    name: str = ""
    sweep: str = ""  # the sweep that the run is a cell of, if it is one

    model: str = "smollm2-135m"
    dtype: Literal["auto", Dtype] = "auto"  # one literal, not a union: what is refused is told all choices
    device: str = "auto"

    text: str = "python-docs"
    n_tokens: int = Field(default=4096, ge=1)
    seq_len: int = Field(default=512, ge=2)
    seed: int = Field(default=0, ge=0)
    batch_size: int | None = Field(default=None, ge=1)  # sequences at a time; None: about 2,048 tokens

    # What to prune, and how far.
    method: str = "come"
    target_layers: int | None = None
    sparsity: float | None = None
    options: dict[str, Any] = {}

    # How to give the pruned model back what it lost: ways in order, on which text (None: the calibration text's).
    recover: list[str] = []
    recover_options: dict[str, Any] = {}
    recover_text: str | None = None
    recover_tokens: int = Field(default=65536, ge=2)

    # What to find out of the result: on which text (None: the evaluation part of the same), by which tasks.
    evaluate: list[Literal["ppl", "acc", "speed"]] = ["ppl"]
    evaluation_text: str | None = None
    evaluation_tokens: int = Field(default=4096, ge=1)
    evaluation_seed: int = Field(default=0, ge=0)  # apart from the seed, so that all are judged on the same text
    tasks: list[str] = ["bundled"]
    task_limit: int | None = Field(default=None, ge=1)  # items of each task; None: all

    # What to keep of it.
    keep_model: bool = True
    save_dtype: Dtype | None = None

    # What an analysis takes in.
    similarity: tuple[Literal["cosine", "angular", "cka"], ...] = ("cosine", "angular", "cka")
    span: int = Field(default=2, ge=2)
    sbi_tokens: Literal["all", "last"] = "all"
    last_state: Literal["normed", "raw"] = "normed"

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_sentence(cls, values: Any, handler: ModelWrapValidatorHandler[RunConfig]) -> RunConfig:
        try:
            return handler(values)
        except ValidationError as error:
            raise _sentence(error) from None

    @property
    def evaluated_on(self) -> str:
        """The text that perplexities are taken on."""
        return self.evaluation_text or self.text

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

    def text_of(self, use: Use) -> tuple[str, int, Split, int]:
        """The text of a use, how many tokens of it, of which part, and the seed that draws them."""
        if use == "calibration":
            return self.text, self.n_tokens, "calibration", self.seed
        if use == "recovery":
            return self.recovered_on, self.recover_tokens, "calibration", self.seed
        return self.evaluated_on, self.evaluation_tokens, "evaluation", self.evaluation_seed


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
    for text in {config.text, config.recovered_on, config.evaluated_on}:
        _check_text(text)
    if config.recover:
        from come.recovery.registry import parse

        parse(config.recover, config.recover_options)
    if "acc" in config.evaluate:
        from come.evaluate import check_tasks

        check_tasks(config.tasks)
    if config.kind == "analyze":
        check_rules(config.span, facts.layers, config.sbi_tokens, config.last_state)
        return config, None
    return config, check_request(facts, config.method, config.target_layers, config.sparsity, config.options)


def anchored(config: RunConfig) -> RunConfig:
    """The request with the user's paths made absolute, so that it means the same from any folder."""
    evaluation_text = config.evaluation_text and anchored_path(config.evaluation_text)
    recover_text = config.recover_text and anchored_path(config.recover_text)
    return config.model_copy(
        update={
            "model": anchored_path(config.model),
            "text": anchored_path(config.text),
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


def _reserved_names() -> set[str]:
    """Names that mean something bundled, whatever lies in the working directory."""
    from come.models.catalogue import BUNDLED
    from come.text import known_texts

    return {BUNDLED, *(source.name for source in known_texts())}


def _check_text(text: str) -> None:
    from come.text import known_texts, read

    known = {source.name: source for source in known_texts()}
    if text not in known or known[text].where == "bundled":
        read(text)  # raises what is wrong with it; a hub text is fetched by the run itself


def _sentence(error: ValidationError) -> ComeError:
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"][:1]) or "request"
    if first["type"] == "extra_forbidden":
        near = difflib.get_close_matches(field, RunConfig.model_fields, n=2)
        return ComeError(f"A run has no setting {field!r}.", f"Did you mean {' or '.join(near)}?" if near else "")
    reason = first["msg"][:1].lower() + first["msg"][1:]
    return ComeError(f"The setting {field} cannot be {first['input']!r}: {reason}.")
