"""People's own chats become text through the model's chat template, or a line a turn, which is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.events import Event
from come.text import content, describe_text, documents, form_of_text, read, text_hash
from come.text.chat import Conversation
from tests.text.own_files import BYE, CHATML, HI, STRICT, jsonl, taught
from tests.tiny import tiny_bundle, tiny_tokenizer


@pytest.mark.parametrize(
    ("rows_", "form", "text"),
    [
        ([{"messages": HI}] * 2, "messages", "<user>hi</user><assistant>hello</assistant>" * 2),
        ([{"messages": HI, "prompt": "hi", "id": 7}], "messages", "<user>hi</user><assistant>hello</assistant>"),
        ([{"messages": json.dumps(HI)}], "messages", "<user>hi</user><assistant>hello</assistant>"),
        ([{"conversations": BYE}], "conversations", "<user>bye</user><assistant>so long</assistant>"),
        ([{"conversations": HI}], "conversations", "<user>hi</user><assistant>hello</assistant>"),
        (
            [{"prompt": HI[:1], "completion": HI[1:]}],
            "prompt and completion",
            "<user>hi</user><assistant>hello</assistant>",
        ),
        (
            [{"instruction": "Add.", "input": "1 and 2", "output": "3"}, {"instruction": "Sing.", "output": "La"}],
            "instruction, input and output",
            "<user>Add.\n\n1 and 2</user><assistant>3</assistant><user>Sing.</user><assistant>La</assistant>",
        ),
    ],
)
def test_chats_go_through_the_models_chat_template(tmp_path: Path, rows_: list[Any], form: str, text: str) -> None:
    found = content(jsonl(tmp_path / "chat.jsonl", *rows_), tokenizer=taught())
    assert found == documents.Content(text, f"{form}, through the model's chat template")


def test_what_templates_look_at_beside_the_content_is_handed_on(tmp_path: Path) -> None:
    template = "{{ tools[0].name }}{% for m in messages %}|{{ m.name or m.tool_calls }}{% endfor %}"
    called = {"role": "assistant", "content": None, "tool_calls": ["f(1)"], "name": None}
    asked = {"messages": [{"role": "user", "name": "Ann", "content": "f?"}, called], "tools": [{"name": "f"}]}
    assert read(jsonl(tmp_path / "a.jsonl", asked), tokenizer=taught(template)) == "f|Ann|['f(1)']"


def test_the_text_of_a_date_template_is_the_same_every_day(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": HI})
    within = "{% macro day() %}{{ strftime_now('%d %B %Y') }}{% endmacro %}"
    template = within + "{{ strftime_now('%Y-%m-%d') }} {{ day() }}{% for m in messages %}{{ m.content }}{% endfor %}"
    assert read(path, tokenizer=taught(template)) == "2025-01-01 01 January 2025hihello"


@pytest.mark.parametrize("told", [{"messages": HI}, {"conversations": BYE}])
def test_without_a_chat_template_a_line_a_turn_and_it_is_said(tmp_path: Path, told: dict[str, Any]) -> None:
    found = content(jsonl(tmp_path / "a.jsonl", told, told), tokenizer=tiny_tokenizer())
    turns = "user: hi\nassistant: hello" if "messages" in told else "user: bye\nassistant: so long"
    assert found.characters == f"{turns}\n\n{turns}"
    assert (
        found.form == f'{next(iter(told))}, a line a turn, such as "user: ...", because the model has no chat template'
    )


def test_chats_that_the_template_refuses_are_counted(tmp_path: Path) -> None:
    system = [{"role": "system", "content": "Be brief."}, *HI]
    path = jsonl(tmp_path / "a.jsonl", {"messages": HI}, {"messages": system}, {"messages": HI})
    found = content(path, tokenizer=taught(STRICT))
    accepted = "<s>[user]hi[assistant]hello"
    assert found.characters == f"{accepted}system: Be brief.\nuser: hi\nassistant: hello\n\n{accepted}"
    assert "but 1 of 3, which it refuses (Roles must alternate), a line a turn" in found.form
    found = content(jsonl(path, {"messages": system}), tokenizer=taught(STRICT))
    assert "because the model's chat template refuses them (Roles must alternate)" in found.form
    # Of several named templates none is the one for chats.
    found = content(path, tokenizer=taught({"tool_use": CHATML}))
    assert "because the model's chat template refuses them" in found.form


def test_parts_that_are_no_text_and_empty_rows_are_counted(tmp_path: Path) -> None:
    parts = [{"type": "image", "url": "a.png"}, {"type": "text", "text": "What"}, {"type": "text", "text": "is it?"}]
    shown = {"messages": [{"role": "user", "content": parts}]}
    path = jsonl(tmp_path / "a.jsonl", shown, {"messages": None}, {"messages": []}, shown)
    found = content(path, tokenizer=taught())
    assert found.characters == "<user>What\nis it?</user>" * 2
    assert found.form.endswith("chat template; 2 empty rows left out; 2 parts that are no text left out")


def test_tokens_are_those_of_the_chat_template(tmp_path: Path) -> None:
    bundle, told = tiny_bundle(), list[Event]()
    path = jsonl(tmp_path / "a.jsonl", *[{"messages": HI}] * 20)
    bundle.tokenizer = taught()
    drawn = come.tokens(bundle, str(path), n_tokens=86, seq_len=43, on_progress=told.append)
    assert bundle.tokenizer.decode(drawn[0].tolist()).replace(" ", "") == "<user>hi</user><assistant>hello</assistant>"
    assert told[0].message == "a.jsonl is read as messages, through the model's chat template"
    bundle.tokenizer = tiny_tokenizer()
    drawn = come.tokens(bundle, str(path), n_tokens=27, seq_len=27)
    assert "user: hi" in "".join(map(bundle.tokenizer.decode, drawn[0].tolist()))


def test_a_chat_is_known_by_what_the_template_made_of_it(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"messages": HI})
    assert len({text_hash(path), text_hash(path, tokenizer=taught()), text_hash(path, tokenizer=taught(STRICT))}) == 3
    assert describe_text(path, tokenizer=taught())["form"] == "messages, through the model's chat template"
    assert describe_text(path)["form"] == "messages, through the model's chat template, where it has one"


PICTURES = [{"role": "user", "content": [{"type": "image", "url": "a.png"}]}, {"role": "assistant", "content": " "}]


@pytest.mark.parametrize(
    ("empty", "full"),
    [
        ({"messages": PICTURES}, {"messages": HI}),
        ({"messages": json.dumps(PICTURES)}, {"messages": HI}),
        ({"conversations": [{"from": "human", "value": ""}]}, {"conversations": HI}),
        ({"prompt": PICTURES, "completion": []}, {"prompt": HI[:1], "completion": HI[1:]}),
        ({"instruction": " ", "output": ""}, {"instruction": "hi", "output": "hello"}),
    ],
)
@pytest.mark.parametrize("tokenizer", [taught(), tiny_tokenizer(), None])
def test_a_chat_without_any_text_holds_nothing(
    tmp_path: Path, empty: dict[str, Any], full: dict[str, Any], tokenizer: Any
) -> None:
    alone = content(jsonl(tmp_path / "a.jsonl", full), tokenizer=tokenizer)
    found = content(jsonl(tmp_path / "b.jsonl", empty, full, empty), tokenizer=tokenizer)
    assert found.characters == alone.characters
    assert found.form.startswith(f"{alone.form}; 2 empty rows left out")
    path = jsonl(tmp_path / "c.jsonl", empty, empty)
    with pytest.raises(ComeError, match="is empty"):
        content(path, tokenizer=tokenizer)
    assert form_of_text(path) == ""


def test_a_chat_in_a_named_column_without_any_text_holds_nothing(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"chat": PICTURES}, {"chat": HI})
    assert "1 empty rows left out" in content(f"{path}:chat").form
    with pytest.raises(ComeError, match="is empty"):
        read(f"{jsonl(path, {'chat': PICTURES})}:chat")


def test_a_turn_that_calls_a_tool_holds_something(tmp_path: Path) -> None:
    called = {"role": "assistant", "content": None, "tool_calls": ["f(1)"]}
    found = content(jsonl(tmp_path / "a.jsonl", {"messages": [called]}), tokenizer=taught())
    assert found.characters == "<assistant></assistant>" and "empty" not in found.form


def test_a_conversation_keeps_its_turns() -> None:
    from come.text.chat import conversation

    assert conversation(BYE) == Conversation(
        [{"role": "user", "content": "bye"}, {"role": "assistant", "content": "so long"}]
    )
    assert conversation("hi") is conversation(7) is conversation([7]) is None
