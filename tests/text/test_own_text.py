"""People's own files: chats, instructions and tables become text, in a form that is said; others are refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from come.errors import ComeError
from come.request import RunConfig, anchored, anchored_text
from come.serving.limits import DEMO
from come.source_fingerprint import source_fingerprint
from come.text import content, documents, form_of_text, read, rows, short_name
from tests.text.own_files import BYE, HI, jsonl, parquet, taught

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
