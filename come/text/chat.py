"""A conversation as one text: through the chat template of a model's tokenizer, or plainly, a line a turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

from come.errors import ComeError
from come.text.apart import Apart, Overrun, Refused

_TEMPLATES = Apart("chat_template")
_PATIENCE = 300.0  # seconds for all conversations of a text

_ROLES = {  # what the data sets that say "from" and "value" call the speakers
    "human": "user",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "function_response": "tool",
    "observation": "tool",
}
# Templates that write today's date would write another text each day. To them it is always the first of January 2025;
# what is handed to a template cannot be called, so that the date is told by a macro before it.
_DATE = {"%d": "01", "%-d": "1", "%m": "01", "%B": "January", "%b": "Jan", "%Y": "2025", "%y": "25", "%A": "Wednesday"}
_DATE |= {"%a": "Wed", "%H": "00", "%M": "00", "%S": "00"}
_TODAY = "{{ format" + "".join(f" | replace('{sign}', '{word}')" for sign, word in _DATE.items()) + " }}"
_CLOCK = "{%- macro strftime_now(format) -%}" + _TODAY + "{%- endmacro -%}"


@dataclass(frozen=True)
class Conversation:
    """Turns, each a dict with "role" and "content" and whatever else its data set gave it.

    Attributes:
        turns: in order.
        tools: what the assistant may call, as chat templates take it.
        left_out: how many parts of turns were no text, such as pictures; they are not there.
    """

    turns: list[dict[str, Any]]
    tools: list[Any] | None = None
    left_out: int = 0

    @property
    def is_empty(self) -> bool:
        """Whether no turn has any text, nor calls a tool."""
        return not any(turn["content"].strip() or turn.get("tool_calls") for turn in self.turns)


def conversation(value: Any, tools: Any = None) -> Conversation | None:
    """The conversation that a value of a data set is: turns of "role" and "content", or of "from" and "value".

    None where it is none.
    """
    if not isinstance(value, Sequence) or isinstance(value, str):
        return None
    turns, left_out = [], 0
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        role, content = turn.get("role", turn.get("from")), turn.get("content", turn.get("value"))
        if not isinstance(role, str):
            return None
        if isinstance(content, Sequence) and not isinstance(content, str):
            parts = [part.get("text") if isinstance(part, Mapping) else part for part in content]
            texts = [part for part in parts if isinstance(part, str)]
            left_out += len(parts) - len(texts)
            content = "\n".join(texts)
        if content is None and turn.get("tool_calls"):
            content = ""
        if not isinstance(content, str):
            return None
        # Tables hold every field of every turn; templates take one that is there, if null, for one that is meant.
        others = {key: each for key, each in turn.items() if each is not None and key not in ("from", "value")}
        turns.append({**others, "role": _ROLES.get(role, role), "content": content})
    return Conversation(turns, tools if isinstance(tools, list) and tools else None, left_out)


def template_of(tokenizer: Any) -> Callable[[Conversation], str] | None:
    """What writes a conversation as the model was taught; None where the tokenizer has no chat template.

    It raises ``Refused`` on a conversation that the template refuses, and a ComeError where it takes too long.
    """
    if not getattr(tokenizer, "chat_template", None):
        return None
    left = _PATIENCE

    def write(asked: Conversation) -> str:
        nonlocal left
        template = chosen_template(tokenizer, asked.tools)
        if "strftime_now" in template:
            template = _CLOCK + template
        begun = monotonic()
        written = through_template(tokenizer, asked.turns, template, asked.tools)
        left -= monotonic() - begun
        if left < 0:
            raise _takes_too_long()
        return written

    return write


def chosen_template(tokenizer: Any, tools: list[Any] | None = None) -> str:
    """Which of a tokenizer's chat templates is for a conversation with or without tools.

    Raises:
        Refused: none of them is, or it is no text.
    """
    try:
        template = tokenizer.get_chat_template(tools=tools)
    except Exception as error:  # what a tokenizer's files say of templates may be anything
        raise Refused(str(error)) from error
    if not isinstance(template, str):
        raise Refused("it is no text")
    return template


def through_template(
    tokenizer: Any,
    turns: Sequence[Mapping[str, Any]],
    template: str,
    tools: list[Any] | None = None,
    add_generation_prompt: bool = False,
) -> str:
    """A conversation through a chat template, as ``tokenizer.apply_chat_template`` writes it, within bounds.

    Raises:
        Refused: the template refuses it. ComeError: it takes too much time or memory.
    """
    if not turns:
        raise Refused("the conversation has no turns")
    question = {
        "conversations": [[{name: each for name, each in turn.items() if each is not None} for turn in turns]],
        "tools": tools,
        "chat_template": template,
        "add_generation_prompt": add_generation_prompt,
        **tokenizer.special_tokens_map,
    }
    try:
        return str(_TEMPLATES.ask(question))
    except Overrun as error:
        raise _takes_too_long() from error


def _takes_too_long() -> ComeError:
    return ComeError(
        "The model's chat template takes more time or memory than a template should.",
        "Choose a text that is no conversation, or put the template in its tokenizer_config.json right.",
    )


def plainly(asked: Conversation) -> str:
    """A line a turn: "role: content"."""
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in asked.turns)
