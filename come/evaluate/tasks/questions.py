"""Multiple-choice questions: their form in a .jsonl file, our own or PIQA's, and the four sets that are bundled."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, Field, ValidationError, model_validator

from come.bounded_json import read_bytes, refuse_large_json
from come.errors import ComeError
from come.settings import expanded, is_text

_LONGEST = 64 << 20  # bytes of such a file
_FORM = 'Write lines like {"question": "Ice is", "choices": ["cold.", "hot."], "answer": 0}.'


def _some_text(text: str) -> str:
    if not text.strip():
        raise ValueError("it is blank")
    if any("\ud800" <= character <= "\udfff" for character in text):  # no tokenizer takes half a surrogate pair
        raise ValueError("it is not valid Unicode")
    return text


Text = Annotated[str, AfterValidator(_some_text)]


class Question(BaseModel):
    """One question: a model is right where "question" + " " + "choices[answer]" is the likeliest continuation.

    Attributes:
        question: what comes first, kept as it is.
        choices: two or more continuations, the right one only once.
        answer: which of them is right, from 0.
    """

    question: Text
    choices: list[Text] = Field(min_length=2)
    answer: int = Field(ge=0, strict=True)

    @model_validator(mode="after")
    def _is_answerable(self) -> Question:
        if self.answer >= len(self.choices):
            raise ValueError(f"answer {self.answer} is none of the {len(self.choices)} choices, which count from 0")
        if self.choices.count(self.choices[self.answer]) > 1:
            raise ValueError("the right choice is there twice")
        return self


class _Piqa(BaseModel):
    """PIQA's form of a line."""

    goal: Text
    sol1: Text
    sol2: Text
    label: Literal[0, 1]

    def question(self) -> Question:
        return Question(question=self.goal, choices=[self.sol1, self.sol2], answer=self.label)


def read_questions(path: str | Path) -> list[Question]:
    """The questions of a .jsonl file: one JSON object a line; blank lines are passed over, other fields ignored.

    Raises:
        ComeError: there is no such file, it cannot be read, a line is malformed (named by its number), or it is empty.
    """
    path = expanded(path)
    if not is_text(str(path)):
        raise ComeError(f"No file can be named {str(path)!r}.", "Check the path of the questions.")
    if not os.path.exists(path):
        raise ComeError(f"There is no file {path}.", "Check the path of the questions.")
    try:
        text = read_bytes(path, _LONGEST).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ComeError(f"{path} is not UTF-8 text.", "Convert it to UTF-8, or name another file.") from error
    questions = list(_questions(text, path))
    if not questions:
        raise ComeError(f"{path} holds no questions.", _FORM)
    return questions


def _questions(text: str, path: Path) -> Iterator[Question]:
    for number, line in enumerate(text.split("\n"), start=1):  # not splitlines: JSON strings may hold other line ends
        if not line.strip():
            continue
        refuse_large_json(line.encode(), f"Line {number} of {path}")
        try:
            yield _question(json.loads(line))
        except ValidationError as error:
            raise ComeError(f"Line {number} of {path} is not a question: {_reason(error)}.", _FORM) from error
        except (ValueError, RecursionError) as error:
            raise ComeError(f"Line {number} of {path} is not JSON.", "Write one JSON object a line.") from error


def _question(row: Any) -> Question:
    if isinstance(row, dict) and "goal" in row and "question" not in row:
        return _Piqa.model_validate(row).question()
    return Question.model_validate(row)


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    if first["type"] == "model_type":
        return "it is no JSON object"
    field = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f'it has no field "{field}"'
    reason = first["msg"].removeprefix("Value error, ")
    reason = reason[:1].lower() + reason[1:]
    return f'its field "{field}": {reason}' if field else reason


FOLDER = Path(__file__).parent.parent / "questions"

TITLES = {
    "physical_sense": "everyday physical sense, 2 choices",
    "what_happens_next": "what happens next, 4 choices",
    "school_science": "school science, 4 choices",
    "facts_cloze": "cloze of facts, 4 choices",
}
# Any change of an item makes another set: numbers taken on the old one would no longer compare.
SHA256 = {
    "physical_sense": "d876c86abc7668ecd2c5298927af6248489a9a05e81dae7015b5702754452316",
    "what_happens_next": "ef08d11ab940863b51b8e98a6c0ee324d88485aee839fe64f9edf4e419c95cbe",
    "school_science": "33c89b78519b19cfbcba80b6c9d857efa92baf983a846dcfeea5a0645f476018",
    "facts_cloze": "1226301f53b42f70840f71c08dee0059d8317db3a216927939d5de44376d7a4a",
}


def bundled_questions(name: str) -> list[Question]:
    """The questions of one of the sets in ``TITLES``."""
    return read_questions(FOLDER / f"{name}.jsonl")
