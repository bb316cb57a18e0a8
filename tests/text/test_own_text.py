"""People's own files: chats, instructions and tables become text, in a form that is said; others are refused."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from copy import copy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import come
from come.errors import ComeError
from come.events import Event
from come.request import RunConfig, anchored, anchored_text
from come.serving.limits import DEMO
from come.source_fingerprint import source_fingerprint
from come.text import content, describe_text, documents, form_of_text, own_text, read, rows, short_name, text_hash
from come.text.chat import Conversation
from tests.tiny import tiny_bundle, tiny_tokenizer

CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</{{ m.role }}>{% endfor %}"
# Like Mistral's: a system message, or two turns of one side, are refused.
STRICT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate.') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{% endfor %}"
)
HI = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
BYE = [{"from": "human", "value": "bye"}, {"from": "gpt", "value": "so long"}]


def taught(template: str | dict[str, str] = CHATML) -> Any:
    tokenizer = copy(tiny_tokenizer())
    tokenizer.chat_template = template
    return tokenizer


def jsonl(path: Path, *values: Any) -> Path:
    path.write_text("".join(f"{json.dumps(each)}\n" for each in values))
    return path


def parquet(path: Path, **columns: list[Any]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


# --- chats -------------------------------------------------------------------------------------------


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


# --- the form, and the rows, that a file has ---------------------------------------------------------

FULL: list[dict[str, Any]] = [
    {"text": "one"},
    {"messages": HI},
    {"conversations": BYE},
    {"prompt": "one", "completion": " two"},
    {"prompt": HI[:1], "completion": HI[1:]},
    {"instruction": "one", "output": "two"},
    {"instruction": "one", "input": "and", "output": "two"},
]


@pytest.mark.parametrize("full", FULL, ids=lambda full: "+".join(full))
@pytest.mark.parametrize("ending", ["jsonl", "json", "parquet", "csv"])
@pytest.mark.parametrize("beside", [False, True])
def test_the_first_row_that_holds_something_tells_the_form(
    tmp_path: Path, full: dict[str, Any], ending: str, beside: bool
) -> None:
    rows_ = [dict.fromkeys(full), dict.fromkeys(full), full, full]
    if beside:  # what no form knows tells nothing
        rows_ = [{"id": str(number), **row} for number, row in enumerate(rows_)]
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        parquet(path, **{name: [row[name] for row in rows_] for name in rows_[0]})
    elif ending == "csv":
        if isinstance(full.get("prompt"), list):
            pytest.skip("prompts in a .csv are strings")
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, rows_[0])
            table.writeheader()
            table.writerows(
                {key: json.dumps(each) if isinstance(each, list) else each for key, each in row.items()}
                for row in rows_
            )
    elif ending == "json":
        path.write_text(json.dumps(rows_))
    else:
        jsonl(path, *rows_)
    alone = jsonl(tmp_path / "alone.jsonl", full, full)
    found, expected = content(path, tokenizer=taught()), content(alone, tokenizer=taught())
    assert found.characters.strip() == expected.characters  # empty strings of a table are documents without a word
    blank_is_text = ending == "csv" and "text" in full
    assert found.form == expected.form + ("" if blank_is_text else "; 2 empty rows left out")
    assert form_of_text(path) == form_of_text(alone)


def test_of_two_forms_the_one_that_holds_something_is_read(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"text": None, "messages": []}, {"text": "", "messages": HI})
    assert content(path, tokenizer=taught()).form.startswith("messages, ")
    path = jsonl(
        tmp_path / "a.jsonl", {"messages": [], "prompt": "a", "completion": None}, {"prompt": "", "completion": "b"}
    )
    assert content(path).characters == "a\n\nb"


def test_a_column_whose_first_rows_are_null_tells_that_it_holds_chats(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", {"chat": None}, {"chat": []}, {"chat": HI})
    assert form_of_text(f"{path}:chat") == 'column "chat", through the model\'s chat template, where it has one'


@pytest.mark.parametrize("full", FULL, ids=lambda full: "+".join(full))
@pytest.mark.parametrize("ending", ["json", "jsonl", "parquet"])
def test_a_list_of_rows_is_read_by_its_name_as_the_error_says(
    tmp_path: Path, full: dict[str, Any], ending: str
) -> None:
    path, lists = tmp_path / f"a.{ending}", {"version": 2, "train": [dict.fromkeys(full), full], "test": [full]}
    if ending == "parquet":
        parquet(path, **{name: [value] for name, value in lists.items()})
    else:
        jsonl(path, lists)
    with pytest.raises(ComeError, match='has the fields "version", "train", "test"') as raised:
        read(path)
    assert raised.value.hint == f"Name the one to read behind a colon, such as a.{ending}:train."
    alone = content(jsonl(tmp_path / "alone.jsonl", full), tokenizer=taught())
    found = content(f"{path}:train", tokenizer=taught())
    assert found == documents.Content(alone.characters, f"{alone.form}; 1 empty rows left out")
    assert content(f"{path}:test", tokenizer=taught()) == alone


def test_a_list_of_rows_is_as_strict_as_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for entry, says in (
        ({"text": 7}, 'Entry 2 of "train" in entry 1 of .*a.json has no field "text" that holds a string'),
        (7, 'Entry 2 of "train" in entry 1 of .*a.json is a JSON number'),
    ):
        path.write_text(json.dumps({"train": [{"text": "one"}, entry]}))
        with pytest.raises(ComeError, match=says):
            read(f"{path}:train")
    path.write_text(json.dumps({"text": [{"text": "one"}]}))
    assert read(f"{path}:text") == "one"
    path.write_text(json.dumps({"train": []}))
    with pytest.raises(ComeError, match="is empty"):
        read(f"{path}:train")


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"count": 7, "body": "one"}, "body"),
        ({"gone": None, "chat": HI}, "chat"),
        ({"count": 7, "gone": None}, "gone"),
        ({"count": 7}, None),
        ({"train": [{"question": "?", "answer": "!"}]}, None),
    ],
)
def test_only_a_column_that_can_be_read_is_proposed(tmp_path: Path, row: dict[str, Any], named: str | None) -> None:
    path = jsonl(tmp_path / "a.jsonl", row, {**row, "gone": "later"})
    with pytest.raises(ComeError, match="make none of the known forms") as raised:
        read(path)
    if named is None:
        assert raised.value.hint == 'Mend it: {"text": "..."} is the simplest form.'
    else:
        assert raised.value.hint.endswith(f"such as a.jsonl:{named}.") and read(f"{path}:{named}")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_column_that_is_read_may_be_there_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"a.{ending}"

    def written(*names: str) -> Path:
        if ending == "csv":
            path.write_text(f"{','.join(names)}\n{','.join('abc'[: len(names)])}\n")
        else:
            pq.write_table(pa.Table.from_arrays([pa.array([each]) for each in "abc"[: len(names)]], names=names), path)
        return path

    with pytest.raises(ComeError, match=r'a\.\w+ has 2 columns "text"\. Give each a name of its own\.'):
        read(written("text", "text"))
    with pytest.raises(ComeError, match='has 2 columns "text"'):
        form_of_text(path)
    with pytest.raises(ComeError, match='has 2 columns "body"'):
        read(f"{written('body', 'text', 'body')}:body")
    assert read(path) == read(f"{path}:text") == "b"
    assert read(written("", "", "text")) == "c"


# --- other forms and files ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "completion", "text"),
    [
        ("2 + 2 =", " 4", "2 + 2 = 4"),
        ("Why?", "So.", "Why?\nSo."),
        ("A\n", "b", "A\nb"),
        ("", "b", "b"),
        ("a", None, "a"),
    ],
)
def test_prompts_are_joined_with_what_follows(tmp_path: Path, prompt: str, completion: str | None, text: str) -> None:
    whole = {"prompt": "Q:", "completion": " A."}
    path = jsonl(tmp_path / "a.jsonl", whole, {"prompt": prompt, "completion": completion})
    assert content(path, tokenizer=taught()) == documents.Content(f"Q: A.\n\n{text}", "prompt and completion")


@pytest.mark.parametrize(
    "written",
    [
        '[{"text": "one"}, {"text": "two"}]',
        '\n [\n  {\n   "text": "one"\n  },\n  {\n   "text": "two"\n  }\n ]\n',
        '{"text": "one"}\n{"text": "two"}\n',
        '{\n"text": "one"}{"text": "two"}',
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 1 << 16])
def test_json_is_a_list_of_objects_or_one_after_the_other(
    tmp_path: Path, written: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "_PIECE", piece)
    path = tmp_path / "a.json"
    path.write_text(written)
    assert read(path) == "one\n\ntwo"
    assert form_of_text(path) == "text"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_is_taken_as_it_is_written(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "a.csv"
    lines = [("id", "text"), ("1", '"007, or ""so"""'), ("2", "NA"), ("3", '"two\nlines; more"')]
    path.write_text("\n".join(delimiter.join(fields) for fields in lines))
    assert read(path) == '007, or "so"\n\nNA\n\ntwo\nlines; more'
    assert read(f"{path}:id") == "1\n\n2\n\n3"


def test_a_chat_in_a_table_is_one_whether_as_lists_or_as_json(tmp_path: Path) -> None:
    as_lists = parquet(tmp_path / "a.parquet", id=[1, 2], messages=[HI, HI[:1]], picture=[b"\xff\x00", b"\xfe"])
    as_json = tmp_path / "b.csv"
    as_json.write_text('messages\n"{}"\n"{}"\n'.format(*(json.dumps(each).replace('"', '""') for each in (HI, HI[:1]))))
    expected = "<user>hi</user><assistant>hello</assistant><user>hi</user>"
    for path in (as_lists, as_json):
        assert content(path, tokenizer=taught()).characters == expected
        assert form_of_text(path) == "messages, through the model's chat template, where it has one"


def test_a_named_column_is_read(tmp_path: Path) -> None:
    columns = {"body": ["one", None, "two"], "chat": [HI, None, HI], "count": [1, 2, 3]}
    table = parquet(tmp_path / "odd [1] name.parquet", **columns)
    lines = jsonl(
        tmp_path / "a.jsonl", *[dict(zip(columns, each, strict=True)) for each in zip(*columns.values(), strict=True)]
    )
    for path in (table, lines):
        found = content(f"{path}:body", tokenizer=taught())
        assert found == documents.Content("one\n\ntwo", 'column "body"; 1 empty rows left out')
        assert content(f"{path}:chat", tokenizer=taught()).characters.count("<user>hi</user>") == 2
        with pytest.raises(
            ComeError, match='has the fields "body", "chat", "count", which make none of the known forms'
        ):
            read(path)
        with pytest.raises(ComeError, match=r'has no column "bodi"\. Did you mean "body"\?'):
            read(f"{path}:bodi")
        with pytest.raises(ComeError, match=r'Row 1 of .*|Line 1 of .* has no field "count" that holds a string'):
            read(f"{path}:count")


def test_a_named_column_goes_with_the_file_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jsonl(tmp_path / "a.jsonl", {"body": "one"})
    monkeypatch.chdir(tmp_path)
    named = f"{tmp_path}/a.jsonl:body"
    assert anchored_text("a.jsonl:body") == named and short_name(named) == "a.jsonl:body"
    asked = RunConfig(text="a.jsonl:body", evaluation_text="a.jsonl:body", recover_text="a.jsonl:body")
    assert {anchored(asked).text, anchored(asked).evaluated_on, anchored(asked).recovered_on} == {named}
    assert source_fingerprint(named) == source_fingerprint(f"{tmp_path}/a.jsonl") != ""
    with pytest.raises(ComeError, match="not offered here"):
        DEMO.check_text(named)
    jsonl(tmp_path / "a.jsonl:body", {"text": "a file of that very name"}).rename(tmp_path / "a.jsonl:b.jsonl")
    assert read("a.jsonl:b.jsonl") == "a file of that very name"


@pytest.mark.parametrize("ending", ["TXT", "JSONL", "Parquet"])
def test_endings_may_be_in_capitals(tmp_path: Path, ending: str) -> None:
    path = parquet(tmp_path / f"a.{ending}", text=["one"])
    if ending != "Parquet":
        path.write_text('{"text": "one"}' if ending == "JSONL" else "one")
    assert read(path) == "one"


# --- what is refused, and how much is read -----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "written", "says"),
    [
        (
            "a.jsonl",
            '{"question": "?", "answer": "!"}',
            'has the fields "question", "answer", .* prompt and completion',
        ),
        ("a.jsonl", "{}", "has the fields none, which make none of the known forms"),
        ("a.jsonl", '{"messages": "hi"}', 'Line 1 of .* no field "messages" that holds turns'),
        ("a.jsonl", '{"messages": [{"role": "user"}]}', 'Line 1 of .* no field "messages" that holds turns'),
        ("a.jsonl", '{"messages": [{"role": "user", "content": 7}]}', "that holds turns"),
        ("a.jsonl", '{"messages": ["hi"]}', "that holds turns"),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "hi"}]}\n{"text": "one"}',
            'Line 2 of .* no field "messages"',
        ),
        ("a.jsonl", '{"messages": []}\n{"text": "one"}', 'Line 1 of .* no field "text"'),
        ("a.jsonl", '{"text": null, "id": "a"}\n{"text": null, "id": "b"}', "is empty"),
        ("a.csv", "instruction,output\n,\n,\n", "is empty"),
        ("a.jsonl", '{"conversations": [{"from": 1, "value": "a"}]}', "that holds turns"),
        ("a.jsonl", '{"instruction": "a", "output": 7}', 'no field "output" that holds a string'),
        ("a.jsonl", '{"prompt": "a", "completion": ["b"]}', 'no field "prompt" that holds turns'),
        ("a.jsonl", '{"messages": [{"role": "user", "content": "\\ud800"}]}', "whole characters"),
        ("a.jsonl", '{"messages": []}', "is empty"),
        ("a.json", "[", "ends within its list"),
        ("a.json", '[{"text": "one"},', "ends within its list"),
        ("a.json", '[{"text": "one"}, {"text": "tw', "Entry 2 of .* is not JSON"),
        ("a.json", '[{"text": "one"} nonsense]', "Entry 2 of .* is not JSON"),
        ("a.json", "nonsense that is no JSON at all, and longer than an escape", "Entry 1 of .* is not JSON"),
        ("a.json", '{"data": [{"text": "one"}]}', 'has the fields "data"'),
        ("a.json", "[1, 2]", "Entry 1 of .* is a JSON number"),
        ("a.json", "[" * 100_000, "Entry 1 of .* is not JSON"),
        ("a.json", '[{"text": ' + "1" * 5000 + "}]", "Entry 1 of .* is not JSON"),
        ("a.json", "[]", "is empty"),
        ("a.json", "", "is empty"),
        ("a.csv", "", "is empty"),
        ("a.csv", "text\n", "is empty"),
        ("a.csv", "id,text\n1,hello, you\n", "Line 2 of .* has 3 fields, and the first line names 2"),
        ("a.csv", 'text\n"hello" you\n', "Line 2 of .* cannot be read as CSV"),
        ("a.csv", "text\nhel\0lo\n", "NUL|cannot be read as CSV"),
        ("a.parquet", "no table", "is not a Parquet file"),
        ("a.parquet", "PAR1 and so on PAR1", "is not a Parquet file"),
    ],
)
def test_what_is_no_text_is_refused_in_a_sentence(tmp_path: Path, name: str, written: str, says: str) -> None:
    path = tmp_path / name
    path.write_text(written)
    with pytest.raises(ComeError, match=says) as raised:
        read(path)
    assert raised.value.hint, "each error says what to do"


def test_a_table_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", text=[f"{number} " * 999 for number in range(99)])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ComeError, match="is not a Parquet file"):
        read(path)
    path.write_bytes("café".encode("latin-1"))
    with pytest.raises(ComeError, match="is not UTF-8"):
        read(path.rename(tmp_path / "a.csv"))


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_row_without_end_is_refused(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows, "LONGEST", 1000)
    monkeypatch.setattr(rows, "_PIECE", 16)
    path = tmp_path / name
    long = "x" * 3000
    path.write_text(
        f'text\n"{long}"\n' if name == "a.csv" else json.dumps([{"text": long}] if name == "a.json" else long)
    )
    with pytest.raises(ComeError, match="has more than 1,000 characters"):
        read(path)


def test_no_more_is_read_than_a_text_may_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 10)
    taken = 0

    def endless(*_: object) -> Iterator[rows.Row]:
        nonlocal taken
        while True:
            taken += 1
            yield rows.Row("Row", {"text": "abcdefgh"})

    monkeypatch.setattr(own_text, "rows", endless)
    path = jsonl(tmp_path / "a.jsonl", {})
    assert content(path) == documents.Content("abcdefgh", "text; its first 10 characters")
    assert taken < 5
    (tmp_path / "a.txt").write_text("0123456789abc")
    assert content(tmp_path / "a.txt") == documents.Content("0123456789", "plain text; its first 10 characters")


def test_a_conversation_keeps_its_turns() -> None:
    from come.text.chat import conversation

    assert conversation(BYE) == Conversation(
        [{"role": "user", "content": "bye"}, {"role": "assistant", "content": "so long"}]
    )
    assert conversation("hi") is conversation(7) is conversation([7]) is None
