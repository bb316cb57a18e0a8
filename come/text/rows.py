"""The rows of a .jsonl, .json, .csv or .parquet file, one after the other: no more of it is read than is asked for."""

from __future__ import annotations

import csv
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from come.bounded_json import plain_file, refuse_large_json
from come.errors import ComeError
from come.text.apart import MEMORY, Overrun, Refused, answers

_CROWD = 1_500_000  # parts of one row
_COLUMNS = 10_000
_MOST_MEMORY = 4 << 30  # bytes, to unpack a .parquet file
LONGEST = 8_000_000  # characters of one row: as many as are read of a whole text
_PIECE = 1 << 16
_DELIMITERS = (",", ";", "\t", "|")
_BLANK = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Row:
    """A row of a file.

    Attributes:
        place: where it stands, for sentences such as "Line 3 of a.jsonl ...".
        values: what its fields hold.
        listed: whether it stands in a list that is itself a field, such as that of {"train": [...]}.
    """

    place: str
    values: dict[str, Any]
    listed: bool = False


def rows(path: Path, columns: Collection[str] | None = None) -> Iterator[Row]:
    """The rows of a file that ends in one of ``READERS``.

    Args:
        path: the file.
        columns: what is to be read of them; a table may name none of these twice. Of a .parquet file no others are
            read where it has some of them, for they may hold pictures.

    Raises:
        ComeError: it is not what its ending says, a row of it is too long, or a column is there twice.
        OSError: it cannot be read. UnicodeDecodeError: it is not UTF-8.
    """
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path, columns)
        return
    # newline="": line ends are taken as they are. "utf-8-sig": a byte order mark is not text.
    with path.open(encoding="utf-8-sig", newline="") as file:
        yield from READERS[path.suffix.lower()](file, path, columns)


def entries(row: Row, field: str) -> Iterator[Row]:
    """The rows of a list that is a field of a row.

    Raises:
        ComeError: an entry is no object.
    """
    for number, values in enumerate(row.values[field], start=1):
        place = f'Entry {number} of "{field}" in {row.place[0].lower()}{row.place[1:]}'
        yield replace(_row(place, values), listed=True)


def _jsonl(file: TextIO, path: Path, _: Collection[str] | None) -> Iterator[Row]:
    for number, line in enumerate(_lines(file, path), start=1):
        if not line.strip():
            continue
        place = f"Line {number} of {path}"
        _refuse_crowded(line, place)
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ComeError(f"{place} is not JSON.", "Write one JSON object a line.") from error
        yield _row(place, values)


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST + 1):
        number += 1
        if len(line) > LONGEST:
            raise _too_long(f"Line {number} of {path}")
        yield line


def _json(file: TextIO, path: Path, _: Collection[str] | None) -> Iterator[Row]:
    """The entries of a JSON list, or JSON objects one after the other, decoded one at a time."""
    decode, text, at, ended = json.JSONDecoder().raw_decode, "", 0, False
    in_list, number = False, 0
    while True:
        blank = _BLANK.match(text, at)
        at = blank.end() if blank else at
        sign, begins = text[at : at + 1], not in_list and number == 0
        if (sign == "[" and begins) or (sign == "," and in_list and number > 0):
            in_list, at = True, at + 1
            continue
        if sign == "]" and in_list:
            return
        place = f"Entry {number + 1} of {path}"
        _refuse_crowded(text, place)
        try:
            values, end = decode(text, at)
            whole = ended or end < len(text)  # a number at the end of what was read so far may go on
        except json.JSONDecodeError as error:
            # What was cut off fails at its very end, or says that a string does not end.
            cut_off = error.pos > len(text) - len("\\uXXXX") - 2 or error.msg.startswith("Unterminated string")
            if not cut_off:
                raise _not_json(place) from error
            whole = False
        except (ValueError, RecursionError) as error:  # a number of thousands of digits, or lists in lists in lists
            raise _not_json(place) from error
        if whole:
            number, at = number + 1, end
            yield _row(place, values)
            continue
        text, at = text[at:], 0
        if ended and text:
            raise _not_json(place)
        if ended and in_list:
            raise ComeError(f"{path} ends within its list.", "Check that the file is whole.")
        if ended:
            return
        if len(text) > LONGEST:
            raise _too_long(place)
        # Much more each time, so that a long entry is not tried often.
        piece = file.read(min(max(_PIECE, 7 * len(text)), LONGEST + 1 - len(text)))
        ended, text = not piece, text + piece


def _refuse_crowded(text: str, place: str) -> None:
    """Refuse a long row of very many parts before they are built: each takes a hundred bytes."""
    if len(text) > _CROWD and sum(map(text.count, "[{,")) > _CROWD:
        refuse_large_json(text.encode("utf-8", "surrogatepass"), place, LONGEST, _CROWD)


def _not_json(place: str) -> ComeError:
    return ComeError(f"{place} is not JSON.", "Write a list of JSON objects.")


def _csv(file: TextIO, path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    """The rows below a line of names, which tells by what they are divided."""
    first = file.readline(LONGEST)
    file.seek(0)
    delimiter = max(_DELIMITERS, key=first.count)
    csv.field_size_limit(LONGEST)
    reader = csv.reader(_lines(file, path), delimiter=delimiter, strict=True)
    try:
        names = next(reader, [])
        _check_once(names, columns, path)
        for fields in reader:
            place = f"Line {reader.line_num} of {path}"
            if not fields:
                continue
            if len(fields) != len(names):
                raise ComeError(
                    f"{place} has {len(fields)} fields, and the first line names {len(names)}.",
                    "Put fields that hold the delimiter or a line end between double quotes.",
                )
            yield Row(place, dict(zip(names, fields, strict=True)))
    except csv.Error as error:
        raise ComeError(
            f"Line {reader.line_num} of {path} cannot be read as CSV ({error}).",
            "Put fields that hold the delimiter or a line end between double quotes.",
        ) from error


def _parquet(path: Path, columns: Collection[str] | None) -> Iterator[Row]:
    with plain_file(path) as file:
        size = os.fstat(file.fileno()).st_size
    question = {"path": os.fspath(path), "columns": columns and sorted(columns)}
    # The file itself is mapped, and of a large one a part is unpacked at once.
    with answers("parquet_rows", question, min(MEMORY + 8 * size, _MOST_MEMORY) + size) as told:
        try:
            names = next(told)
            _check_once(names, columns, path)
            for number, values in enumerate(told, start=1):
                yield Row(f"Row {number} of {path}", values)
        except (Refused, StopIteration) as error:
            raise ComeError(
                f"{path} is not a Parquet file that can be read.", "Check that the file is whole."
            ) from error
        except Overrun as error:
            raise ComeError(
                f"{path} takes more time or memory to unpack than such a file should.", "Write it in smaller parts."
            ) from error


def _check_once(names: list[str], columns: Collection[str] | None, path: Path) -> None:
    """Others may be there twice, such as columns without a name: they are not read."""
    if len(names) > _COLUMNS:
        raise ComeError(f"{path} has more than {_COLUMNS:,} columns.", "Write those that are to be read alone.")
    for name, several in Counter(names).items():
        if several > 1 and (columns is None or name in columns):
            raise ComeError(f'{path} has {several} columns "{name[:100]}".', "Give each a name of its own.")


def _row(place: str, values: Any) -> Row:
    if not isinstance(values, dict):
        kind = {list: "list", str: "string", bool: "truth value", type(None): "null"}.get(type(values), "number")
        raise ComeError(
            f"{place} is a JSON {kind}, not an object with a field that holds a string.",
            'Write objects like {"text": "..."}.',
        )
    return Row(place, values)


def _too_long(place: str) -> ComeError:
    return ComeError(f"{place} has more than {LONGEST:,} characters.", "Divide it into several rows.")


_Reader = Callable[[TextIO, Path, Collection[str] | None], Iterator[Row]]
READERS: dict[str, _Reader] = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
SUFFIXES = (*READERS, ".parquet")
