"""The forms that the rows of a data set come in, and the documents that they hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from come.text.chat import Conversation, conversation

Values = Mapping[str, Any]
Document = str | Conversation | None  # None: the row holds nothing


class Unfit(Exception):
    """A row is not of the form: what it lacks, such as 'has no field "text" that holds a string'."""


@dataclass(frozen=True)
class Form:
    """A form of rows.

    Attributes:
        name: what people read.
        fields: the fields by which it is known; a row of it has them all.
        document: what a row holds; raises ``Unfit``.
        optional: fields that are read beside them.
    """

    name: str
    fields: tuple[str, ...]
    document: Callable[[Values], Document]
    optional: tuple[str, ...] = ()


def _string(values: Values, field: str) -> str | None:
    """The string of a field; None where it is null."""
    value = values.get(field, ...)
    if value is not None and not isinstance(value, str):
        raise Unfit(f'has no field "{field}" that holds a string')
    return value


def _turns(values: Values, field: str) -> Conversation:
    """The conversation of a field; of what was written as JSON in a table, too. Without turns where it is null."""
    value = values.get(field, ...)
    if isinstance(value, str):
        try:
            value = json.loads(value) if value.strip() else None
        except (ValueError, RecursionError):
            value = ...
    found = conversation([] if value is None else value, values.get("tools"))
    if found is None:
        raise Unfit(f'has no field "{field}" that holds turns of "role" and "content", or "from" and "value"')
    return found


def _messages(field: str) -> Callable[[Values], Document]:
    return lambda values: _turns(values, field)


def _prompt_and_completion(values: Values) -> Document:
    if any(isinstance(values.get(field), list) for field in ("prompt", "completion")):
        before, after = _turns(values, "prompt"), _turns(values, "completion")
        return Conversation([*before.turns, *after.turns], before.tools, before.left_out + after.left_out)
    prompt, completion = _string(values, "prompt"), _string(values, "completion")
    if not prompt or not completion:
        return prompt or completion
    apart = not prompt[-1].isspace() and not completion[0].isspace()
    return f"{prompt}\n{completion}" if apart else prompt + completion


def _instruction(values: Values) -> Document:
    asked, answer = _string(values, "instruction"), _string(values, "output")
    context = _string(values, "input") if "input" in values else None
    if not asked and not answer:
        return None
    question = "\n\n".join(part for part in (asked, context) if part)
    return Conversation([{"role": "user", "content": question}, {"role": "assistant", "content": answer or ""}])


TEXT = Form("text", ("text",), lambda values: _string(values, "text"))
FORMS = (
    TEXT,
    Form("messages", ("messages",), _messages("messages"), ("tools",)),
    Form("conversations", ("conversations",), _messages("conversations"), ("tools",)),
    Form("prompt and completion", ("prompt", "completion"), _prompt_and_completion),
    Form("instruction, input and output", ("instruction", "output"), _instruction, ("input",)),
)
FIELDS = tuple(field for form in FORMS for field in (*form.fields, *form.optional))
KNOWN = "text, messages, conversations, prompt and completion, instruction (with or without input) and output"


def forms_of(values: Values) -> list[Form]:
    """Those of ``FORMS`` whose fields a row has, even if they hold nothing."""
    return [form for form in FORMS if all(field in values for field in form.fields)]


def is_empty(document: Document) -> bool:
    """Whether a row holds nothing to read."""
    if isinstance(document, Conversation):
        return document.is_empty
    return not (document or "").strip()


def are_rows(value: Any) -> bool:
    """Whether a value is a list of rows of a known form, such as that of {"train": [{"text": "..."}]}; no chat is."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and bool(forms_of(first)) and conversation(value) is None


def column(name: str) -> Form:
    """The form of rows of which one column, or field, is to be read: strings, or conversations."""

    def document(values: Values) -> Document:
        value = values.get(name, ...)
        if isinstance(value, list):
            return _turns(values, name)
        return _string(values, name)

    return Form(f'column "{name}"', (name,), document)
