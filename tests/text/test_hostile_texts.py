"""Texts that lie end in one sentence, and take no more memory than their size warrants; so do chat templates."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from come.errors import ComeError
from come.request import RunConfig, checked
from come.serving.playground.playground import prompt_ids
from come.text import read
from tests.models.hostile import DEEP, IN_PLACE
from tests.tiny import tiny_tokenizer

pytestmark = pytest.mark.timeout(120)


def text(content: bytes | str) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(content.encode() if isinstance(content, str) else content)


def parquet(**columns: Any) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table(columns), path)


def bomb(path: Path) -> None:
    """A hundred million rows of a long text, in few bytes."""
    words = pa.array(["words " * 20_000])
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 2_000_000, pa.int32()), words)
    pq.write_table(pa.table({"text": column}), path, compression="zstd")


def one_long_text(path: Path) -> None:
    """A text of a gigabyte, in some kilobytes."""
    schema = pa.schema([("text", pa.large_string())])
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        text = pa.array(["a" * 1_000_000_000], pa.large_string())
        writer.write_table(pa.table({"text": text}, schema=schema))


def lying_footer(path: Path) -> None:
    pq.write_table(pa.table({"text": ["words"] * 9}), path)
    data = bytearray(path.read_bytes())
    data[-8:-4] = struct.pack("<I", 2**31)
    path.write_bytes(data)


def noisy_footer(path: Path) -> None:
    pq.write_table(pa.table({"text": ["words"] * 9}), path)
    data = bytearray(path.read_bytes())
    data[-200:-20] = bytes(range(180))
    path.write_bytes(data)


def cut(path: Path) -> None:
    pq.write_table(pa.table({"text": ["words"] * 9}), path)
    os.truncate(path, path.stat().st_size // 2)


ROWS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "brackets": (".jsonl", text("[" * DEEP)),
    "closed brackets": (".jsonl", text("[" * DEEP + "]" * DEEP)),
    "objects in objects": (".jsonl", text('{"text":' * DEEP + "1" + "}" * DEEP)),
    "a list of brackets": (".json", text("[" * DEEP)),
    "a text of brackets": (".json", text('[{"text": ' + "[" * DEEP)),
    "empty lists": (".jsonl", text('{"text": [' + "[]," * 2_500_000 + "[]]}")),
    "empty objects": (".json", text('[{"text": [' + "{}," * 2_500_000 + "{}]}]")),
    "a line without end": (".jsonl", text('{"text": "' + "a" * 9_000_000)),
    "an entry without end": (".json", text('[{"text": "' + "a" * 9_000_000)),
    "a line of NULs": (".jsonl", text(bytes(100_000))),
    "NULs": (".txt", text(b"abc\0def")),
    "a NUL in a string": (".jsonl", text('{"text": "a\\u0000b"}')),
    "half of a character": (".jsonl", text('{"text": "\\ud800"}')),
    "noise": (".jsonl", text(bytes(range(256)) * 99)),
    "noise as a text": (".txt", text(bytes(range(256)) * 99)),
    "UTF-16": (".txt", text("words".encode("utf-16"))),
    "a number of 5,000 digits": (".jsonl", text('{"text": ' + "9" * 5000 + "}")),
    "a number": (".jsonl", text("5")),
    "null": (".json", text("null")),
    "two million columns": (".csv", text(",".join(f"c{n}" for n in range(1_000_000)) + "\n")),
    "columns without names": (".csv", text("," * 8_000_000 + "\n")),
    "more columns than a line": (".csv", text("text\n" + "," * 7_000_000 + "\n")),
    "a field without end": (".csv", text('text\n"' + "a" * 9_000_000)),
    "a line of quotes": (".csv", text("text\n" + '"' * 100_001)),
    "a hundred thousand fields a row": (".jsonl", text(json.dumps({f"f{n}": n for n in range(100_000)}))),
    "text twice": (".csv", text("text,text\na,b\n")),
    "no table": (".parquet", text(b"PAR1" + bytes(100) + b"PAR1")),
    "noise as a table": (".parquet", text(bytes(range(256)) * 99)),
    "a footer of 2 GB": (".parquet", lying_footer),
    "a footer of noise": (".parquet", noisy_footer),
    "half of a table": (".parquet", cut),
    "columns of numbers": (".parquet", parquet(text=[1, 2, 3])),
    "columns of bytes": (".parquet", parquet(text=[b"\xff\xfe", b"x"])),
    "many columns": (".parquet", parquet(**{f"c{n}": [1] for n in range(12_000)})),
    **{f"{what} as {suffix}": (suffix, write) for what, write in IN_PLACE.items()
       for suffix in (".jsonl", ".parquet", ".txt") if what not in ("500 MB",) and (suffix, "[") != (".txt", what[:1])},
}  # fmt: skip
FINE = {"brackets as .txt", "closed brackets as .txt", "objects as .txt", "an endless string as .txt"}
FINE |= {"a long number as .txt"}


@pytest.mark.parametrize(("suffix", "write"), ROWS.values(), ids=ROWS)
def test_a_text_that_lies_is_refused(
    suffix: str, write: Callable[[Path], object], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = tmp_path / f"text{suffix}"
    write(path)
    if request.node.callspec.id in FINE:
        assert read(path)
        return
    with pytest.raises(ComeError) as caught:
        read(path)
    said = str(caught.value)
    assert "\n" not in said and said.endswith((".", "?")) and len(said) < 1500 and "fault of ours" not in said


@pytest.mark.slow
@pytest.mark.attack
def test_a_text_of_a_gigabyte_in_a_small_table_is_refused(tmp_path: Path) -> None:
    one_long_text(tmp_path / "long.parquet")
    with pytest.raises(ComeError, match="takes more time or memory to unpack"):
        read(tmp_path / "long.parquet")


@pytest.mark.slow
@pytest.mark.attack
def test_a_table_that_unfolds_is_read_as_far_as_it_is_wanted(tmp_path: Path) -> None:
    bomb(tmp_path / "bomb.parquet")
    assert (tmp_path / "bomb.parquet").stat().st_size < 1_000_000
    assert len(read(tmp_path / "bomb.parquet")) == 8_000_000


def test_a_giant_text_is_read_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with path.open("wb") as file:
        file.write(b"words " * 2_000_000)
        file.truncate(2_000_000_000)
    assert len(read(path)) == 8_000_000


TEMPLATES = {
    "loops in loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a giant text": "{{ 'a' * 10000000000 }}",
    "doubling": "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}",
    "a tower": "{{ 9 ** 9 ** 9 }}{{ (9 ** 9) ** (9 ** 9) }}",
    "a wide number": "{{ '%2000000000d' % 3 }}",
    "a wide text": "{{ 'a' | center(2000000000) }}",
    "itself": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "brackets": "{{ " + "(" * 50_000 + "1" + ")" * 50_000 + " }}",
    "no template": "{% if %}",
    "nothing of ours": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "an import": "{% import 'os' as os %}{{ os.system('touch RAN') }}",
    "lists in lists": "{% set n = namespace(a=1) %}{% for i in range(99) %}{% set n.a = [n.a] * 9 %}"
    "{% endfor %}{{ n.a }}",
}


@pytest.mark.slow
@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_a_chat_template_that_runs_wild_is_ended(template: str, tmp_path: Path) -> None:
    import copy

    tokenizer = copy.deepcopy(tiny_tokenizer())
    tokenizer.chat_template = template
    begun = time.process_time()
    try:
        prompt_ids(tokenizer, "Hello.", None)
    except ComeError as error:
        assert "chat template" in str(error) and "\n" not in str(error)
    chats = tmp_path / "chats.jsonl"
    chats.write_text(json.dumps({"messages": [{"role": "user", "content": "Hello."}]}) + "\n")
    try:
        assert "Hello." in read(chats, tokenizer=tokenizer) or template in (TEMPLATES["itself"], TEMPLATES["a tower"])
    except ComeError as error:
        assert "\n" not in str(error)
    assert time.process_time() - begun < 5  # it is not done in this process
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert prompt_ids(tokenizer, "Hello.", None)[0] == "Hello."


@pytest.mark.parametrize("name", ["a\0b.txt", "\udcff.jsonl", "x" * 70_000 + ".txt", "/dev/zero", "/dev/stdin", "/"])
def test_names_that_can_be_no_text(name: str) -> None:
    with pytest.raises(ComeError):
        read(name)
    with pytest.raises(ComeError):
        checked(RunConfig(text=name, target_layers=2))
