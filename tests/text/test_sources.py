"""Reading texts: the bundled one, files, and what is said of those that cannot be read."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from come.errors import ComeError
from come.text import describe_text, documents, known_texts, read, text_hash


def test_the_bundled_texts_come_first_and_names_are_unique():
    names = [source.name for source in known_texts()]
    assert names[:3] == ["python-docs", "mix", "self"]
    assert set(names[3:]) == {"wikitext2", "c4", "pg19", "bookcorpus", "alpaca", "mmlu"}
    assert len(names) == len(set(names))


def test_the_bundled_text_is_the_language_reference_in_order():
    content = read("python-docs")
    assert len(content) > 400_000
    assert content.index('The "assert" statement') < content.index('The "yield" statement')


def test_a_text_file_is_taken_as_it_is(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffone\r\ntwo\n\n  thrée ".encode())
    assert read(path) == read(str(path)) == "one\r\ntwo\n\n  thrée "


def test_jsonl_gives_its_field_text(tmp_path: Path):
    path = tmp_path / "mine.jsonl"
    rows = [{"text": "one\ntwo", "id": 1}, {"text": "three"}]
    path.write_text("\n\n".join(json.dumps(row) for row in rows) + "\n")
    assert read(path) == "one\ntwo\n\nthree"


def test_long_files_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(documents, "MAX_CHARACTERS", 10)
    (tmp_path / "a.txt").write_text("0123456789abc")
    (tmp_path / "a.jsonl").write_text('{"text": "01234"}\n{"text": "abcdefgh"}\nnever read')
    assert read(tmp_path / "a.txt") == "0123456789"
    assert read(tmp_path / "a.jsonl") == "01234\n\nabc"


def test_a_text_is_known_by_its_hash(tmp_path: Path):
    path = tmp_path / "mine.txt"
    path.write_text("naïve")
    expected = hashlib.sha256("naïve".encode()).hexdigest()
    assert text_hash(path) == expected
    assert describe_text(path) == {"name": str(path), "title": "mine.txt", "hash": expected, "characters": 5}
    assert describe_text("python-docs")["title"] == "Python language reference"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("wikitext", "no text named 'wikitext'. Did you mean wikitext2?"),
        ("Python-Docs", "Did you mean python-docs?"),
        (
            "",
            "no text named ''. Name a .txt, .jsonl, .json, .csv or .parquet file, or one of: python-docs, mix, self",
        ),
        ("zzzz", "or one of: python-docs"),
        ("nowhere.txt", "There is no file nowhere.txt."),
        ("no/where", "There is no file no/where."),
        ("nul\0.txt", "is no text, and no file's name"),
        ("~nobody-here/a.txt", "There is no file"),
        ("x" * 5000 + ".txt", "There is no file"),
    ],
)
def test_unknown_names(name: str, says: str):
    with pytest.raises(ComeError) as raised:
        read(name)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b" \n\t\n", "is empty"),
        ("a.txt", b"caf\xe9 in latin-1", "not UTF-8"),
        ("a.txt", b"\x89PNG\r\n\x1a\n\0\0", "not UTF-8"),
        ("a.txt", b"text\0binary", "NUL"),
        ("a.md", b"# text", "ends in .txt, .jsonl, .json, .csv or .parquet"),
        ("a.jsonl", b"", "is empty"),
        ("a.jsonl", b'{"text": "one"}\n{"text": ', "Line 2 of .* is not JSON"),
        ("a.jsonl", b"[" * 200_000, "Line 1 of .* is not JSON"),
        ("a.jsonl", b'{"text": "one"}\n\n{"body": "two"}', 'Line 3 of .* has no field "text"'),
        ("a.jsonl", b'{"text": 7}', "Line 1 of .* that holds a string"),
        ("a.jsonl", b'["text"]', "Line 1 of .* that holds a string"),
        ("a.jsonl", b'{"text": "\\ud800"}', "Line 1 of .* that holds a string"),
        ("a.jsonl", b'{"text": "caf\xe9"}', "not UTF-8"),
    ],
)
def test_files_that_hold_no_text(tmp_path: Path, name: str, content: bytes, says: str):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ComeError, match=says) as raised:
        read(path)
    assert raised.value.hint, "each error says what to do"


def test_folders_and_pipes_are_not_texts(tmp_path: Path):
    with pytest.raises(ComeError, match="is a folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ComeError, match="is no plain file"):
        read(tmp_path / "pipe.txt")


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "a.txt"
    path.write_text("secret")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)  # root may read everything, so the refusal is played
    with pytest.raises(ComeError, match="cannot be read: Permission denied"):
        read(path)
