"""The plan as text that can be edited: YAML with the names that requests have, one line for what is chosen by hand."""

from __future__ import annotations

import json
from typing import Any

import streamlit as st
import yaml

from app import formats
from app.state import foreseen, request, session
from app.state.choice import Draft, plan_fields
from come.errors import ComeError
from come.models import Facts
from come.pruning.registry import method

KEY = "plan-text"
WRITTEN = "_plan-text-of"  # the text that the plan itself wrote last
PROBLEM = "_plan-text-problem"
LONGEST = 20_000  # characters
BY_HAND = ("windows", "ratios", "drop")
HELP = "windows: [[12, 13]] merges layers 12 and 13; drop: [5] removes layer 5; target_layers: 24 leaves the choice."


def draw(facts: Facts) -> None:
    """The text, which follows the plan until it is edited; an edited text becomes the plan, or says why it cannot."""
    text = to_text(session.draft())
    if session.value(WRITTEN) != text:  # the plan was changed elsewhere
        session.put(WRITTEN, text)
        session.put(KEY, text)
        session.put(PROBLEM, "")
    with st.expander("The plan as text", icon=":material/code:"):
        st.text_area("YAML", key=KEY, height=150, max_chars=LONGEST, on_change=_apply, args=(facts,), help=HELP)
        if problem := session.value(PROBLEM):
            st.error(problem, icon=":material/error:")


def _apply(facts: Facts) -> None:
    try:
        draft = from_text(str(session.value(KEY) or ""))
        if not draft.is_empty:
            foreseen.target_layers(draft, facts)
        session.put(PROBLEM, "")
        session.set_draft(draft)
    except ComeError as error:
        session.put(PROBLEM, formats.sentence(str(error)))


def to_text(draft: Draft) -> str:
    """A plan as YAML."""
    fields = plan_fields(draft)
    options: dict[str, Any] = fields.pop("options")
    told = {name: value for name, value in fields.items() if value is not None}
    told |= {name: options.pop(name) for name in BY_HAND if name in options}
    lines = [f"{name}: {_on_a_line(value)}" for name, value in told.items()]
    if options:
        lines += ["options:", *(f"  {name}: {_on_a_line(value)}" for name, value in options.items())]
    return "\n".join(lines) + "\n"


def _on_a_line(value: Any) -> str:
    """A value as YAML, lists in brackets."""
    return yaml.safe_dump(value, default_flow_style=True, width=LONGEST).removesuffix("...\n").strip()


def from_text(text: str) -> Draft:
    """The plan of a text.

    Raises:
        ComeError: it is no YAML, or no plan.
    """
    values = _values(text)
    options = values.pop("options", None) or {}
    if not isinstance(options, dict):
        raise ComeError("options is no list of names and values.", "Write one below it, like `  span: 3`.")
    options = {**options, **{name: values.pop(name) for name in BY_HAND if name in values}}
    document = {**values, "options": options, "model": session.choice().model}
    _, draft = request.from_json(_as_json(document))
    method(draft.method).parse(plan_fields(draft)["options"])
    return draft


def _values(text: str) -> dict[str, Any]:
    if len(text) > LONGEST:
        raise ComeError(f"The text is longer than {LONGEST:,} characters.", "Shorten it.")
    try:
        values = yaml.load(text, _Plain)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}" if mark is not None else "it"
        raise ComeError(f"The text is no YAML: {where} cannot be read.", HELP) from error
    if not isinstance(values, dict):
        raise ComeError("The text is no plan.", HELP)
    if unknown := [str(name) for name in values if name not in (*_NAMES, *BY_HAND, "options")]:
        raise ComeError(f"A plan has no {unknown[0]!r}.", f"It has {', '.join((*_NAMES, *BY_HAND, 'options'))}.")
    return values


_NAMES = ("method", "target_layers", "sparsity")


def _as_json(document: dict[str, Any]) -> str:
    try:
        return json.dumps(document, allow_nan=False)
    except (TypeError, ValueError, RecursionError):  # a date, say
        raise ComeError("The text holds something other than numbers, words and lists.", HELP) from None


class _Plain(yaml.SafeLoader):
    """YAML without aliases: a few lines of them stand for a text without end."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """As the loader does, but for aliases."""
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "an alias", event.start_mark)
        return super().compose_node(parent, index)
