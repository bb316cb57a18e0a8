"""What is no text is refused in a sentence, and no more is read than a text may hold."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from come.errors import ComeError
from come.text import content, documents, own_text, read, rows
from tests.text.own_files import jsonl, parquet


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
