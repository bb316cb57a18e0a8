"""JSON that somebody else wrote: how long, how deep and of how many parts it is, is known before any of it is built."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NoReturn

from come import reading
from come.errors import ComeError, reason_of
from come.files import human_bytes

DEPTH = 64
PARTS = 200_000
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)  # one that does not end reaches to the end
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_DELIMITERS = b"[]{},"
_AGAIN = "Fetch or copy it again, whole."


def read_json(
    path: Path, most_bytes: int, most_depth: int = DEPTH, most_parts: int = PARTS, finite: bool = True
) -> Any:
    """The document of a JSON file.

    Args:
        path: the file.
        most_bytes: how long it may be.
        most_depth: how many lists and objects may lie in each other.
        most_parts: how many values it may have, those in lists and objects too.
        finite: NaN, infinities and numbers too large for a float are refused.

    Raises:
        ComeError: it is none, cannot be read, or has more than that; an object names a field twice; or a string holds
            half of a character, or a NUL.
    """
    return parse_json(read_bytes(path, most_bytes), os.fspath(path), most_depth, most_parts, finite)


def parse_json(data: bytes, name: str, most_depth: int = DEPTH, most_parts: int = PARTS, finite: bool = True) -> Any:
    """A JSON document, as ``read_json`` reads it; ``name`` is what it is called in a sentence.

    Raises:
        ComeError: as ``read_json`` does.
    """
    refuse_large_json(data, name, most_depth, most_parts)
    try:
        found = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_once,
            parse_constant=_no_number if finite else float,
            parse_float=_finite if finite else float,
        )
    except _Refused as error:
        raise ComeError(f"{name} {error}.", _AGAIN) from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise ComeError(f"{name} cannot be read: it is not JSON ({reason_of(error)}).", _AGAIN) from error
    if b"\\u" in data:
        _refuse_no_text(found, name)
    return found


def refuse_large_json(data: bytes, name: str, most_depth: int = DEPTH, most_parts: int = PARTS) -> None:
    """Refuse a document by the signs that divide it: nothing of it is built.

    Raises:
        ComeError: it is nested deeper, or has more parts.
    """
    signs = _STRING.sub(b"", data).translate(None, _ALL_OTHERS)
    if (parts := len(signs) - signs.count(b"]") - signs.count(b"}")) > most_parts:
        raise ComeError(f"{name} has {parts:,} parts, and at most {most_parts:,} are read.", _AGAIN)
    depth = deepest = 0
    for sign in signs:
        if sign in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif sign in b"]}":
            depth -= 1
    if deepest > most_depth:
        raise ComeError(f"{name} is nested {deepest:,} deep, and at most {most_depth:,} is read.", _AGAIN)


def read_bytes(path: Path, most_bytes: int) -> bytes:
    """What a plain file holds, of no more than so many bytes; nothing is waited for.

    Raises:
        ComeError: it is longer, cannot be read, or is a folder, a pipe or a device.
    """
    with plain_file(path) as file:
        data = file.read(most_bytes + 1)
        size = max(len(data), os.fstat(file.fileno()).st_size)
    if len(data) > most_bytes:
        raise ComeError(
            f"{path} has {human_bytes(size)}, and at most {human_bytes(most_bytes)} of such a file are read.", _AGAIN
        )
    return data


@contextmanager
def plain_file(path: Path) -> Iterator[IO[bytes]]:
    """A plain file to read; nothing is waited for.

    Raises:
        ComeError: it cannot be read, or is a folder, a pipe or a device.
    """
    try:
        with reading.opened(path, _AGAIN) as file:
            yield file
    except OSError as error:
        raise ComeError(f"{path} cannot be read: {error.strerror}.", "Check that you may read it.") from error


class _Refused(Exception):
    """What is wrong with a document, to stand behind its name."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, several in Counter(name for name, _ in pairs).items() if several > 1)
        raise _Refused(f"names {twice[:80]!r} twice in one object")
    return found


def _no_number(word: str) -> NoReturn:
    raise _Refused(f"says {word}, which is no finite number")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _Refused(f"says {digits[:40]}, which is too large a number")
    return value


def _refuse_no_text(value: Any, name: str) -> None:
    """Refuse strings that are no text: no tokenizer, no file and no path takes them."""
    left = [value]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += [*each, *each.values()]
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and (odd := _NO_TEXT.search(each)):
            what = "a NUL character" if odd[0] == "\0" else f"half of a character (\\u{ord(odd[0]):x})"
            raise ComeError(f"{name} holds {what}.", _AGAIN)


_ALL_OTHERS = bytes(sign for sign in range(256) if sign not in _DELIMITERS)
