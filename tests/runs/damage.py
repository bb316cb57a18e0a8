"""Ways in which a file of a run may be damaged, by name: of its bytes, of the values in it, and of what it is."""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

Bytes = Callable[[bytes], bytes]
Values = Callable[[Any], Any]


def _flipped(data: bytes, seed: int, count: int = 8) -> bytes:
    drawn, found = random.Random(seed), bytearray(data)
    for _ in range(min(count, len(found))):
        found[drawn.randrange(len(found))] ^= 1 << drawn.randrange(8)
    return bytes(found)


def _middle(data: bytes, piece: bytes) -> bytes:
    half = len(data) // 2
    return data[:half] + piece + data[half + len(piece) :]


BYTES: dict[str, Bytes] = {
    "empty": lambda data: b"",
    "half": lambda data: data[: len(data) // 2],
    "one byte short": lambda data: data[:-1],
    "first byte gone": lambda data: data[1:],
    "twice": lambda data: data + data,
    "NUL in the middle": lambda data: _middle(data, b"\0" * 16),
    "all NUL": lambda data: b"\0" * len(data),
    "no UTF-8": lambda data: _middle(data, b"\xff\xfe\x80\xc0"),
    "UTF-16": lambda data: data.decode("utf-8", "replace").encode("utf-16"),
    "noise": lambda data: random.Random(0).randbytes(max(len(data), 100)),
    "eight bits flipped": lambda data: _flipped(data, 1),
    "other bits flipped": lambda data: _flipped(data, 2, 40),
    "first bits flipped": lambda data: _flipped(data[:64], 3) + data[64:],
    "only an opening": lambda data: b'{"',
    "null": lambda data: b"null",
    "a list": lambda data: b"[1, 2]",
    "a number": lambda data: b"3",
    "a text": lambda data: b'"half a surrogate: \\ud800"',
    "an empty object": lambda data: b"{}",
    "deep lists": lambda data: b"[" * 100_000,
    "deep objects": lambda data: b'{"a":' * 500 + b"1" + b"}" * 500,
    "a long number": lambda data: b'{"created": ' + b"9" * 10_000 + b"}",
    "a header that lies high": lambda data: struct.pack("<Q", 2**62) + data[8:],
    "a header that lies low": lambda data: struct.pack("<Q", 5) + data[8:],
    "a page of an error": lambda data: b"<html><body>502 Bad Gateway</body></html>",
}


def _each(values: Any, change: Callable[[Any], Any]) -> Any:
    """The values with every leaf changed."""
    if isinstance(values, dict):
        return {name: _each(value, change) for name, value in values.items()}
    if isinstance(values, list):
        return [_each(value, change) for value in values]
    return change(values)


def _numbers(to: Any) -> Values:
    def change(value: Any) -> Any:
        return to if isinstance(value, int | float) and not isinstance(value, bool) else value

    return lambda values: _each(values, change)


def _texts(to: Callable[[str], Any]) -> Values:
    return lambda values: _each(values, lambda value: to(value) if isinstance(value, str) else value)


def _containers(values: Any) -> Any:
    """Lists for objects inside, and objects for lists."""
    if isinstance(values, dict):
        return {name: list(value) if isinstance(value, dict) else _containers(value) for name, value in values.items()}
    return {str(place): value for place, value in enumerate(values)} if isinstance(values, list) else values


VALUES: dict[str, Values] = {
    "numbers are NaN": _numbers(float("nan")),
    "numbers are infinite": _numbers(float("inf")),
    "numbers are -1": _numbers(-1),
    "numbers are 0": _numbers(0),
    "numbers are 1e18": _numbers(1e18),
    "numbers are 10^30": _numbers(10**30),
    "numbers are texts": _numbers("many"),
    "numbers are lists": _numbers([1, 2]),
    "texts are numbers": _texts(lambda text: 7),
    "texts are objects": _texts(lambda text: {"a": text}),
    "texts are long": _texts(lambda text: text * 1 + "x" * 100_000),
    "texts hold NUL": _texts(lambda text: f"{text}\0"),
    "texts are paths upwards": _texts(lambda text: "../../../../etc/passwd"),
    "all null": lambda values: _each(values, lambda value: None),
    "all true": lambda values: _each(values, lambda value: True),
    "objects and lists exchanged": _containers,
    "more keys": lambda values: values | {"more": [[[[1]]]]} if isinstance(values, dict) else values,
    "ten million layers": lambda values: json.loads(
        json.dumps(values).replace('"layers": 6', '"layers": 10000000').replace('"layers": 4', '"layers": 10000000')
    ),
    "100,000 steps": lambda values: (
        values | {"steps": (values.get("steps") or [{}]) * 100_000, "step": 100_000}
        if isinstance(values, dict) and "schema_version" in values
        else {"steps": [values] * 100_000}
    ),
}


def _keys_gone(values: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for name in values:
            yield f"without {name}", {other: value for other, value in values.items() if other != name}
            yield f"{name} is null", values | {name: None}
            yield f"{name} is a list", values | {name: [3, "x", None]}


def damaged_contents(data: bytes, every: int = 1, every_key: bool = False) -> Iterator[tuple[str, bytes]]:
    """What a file might hold instead, by the kind of damage.

    Args:
        data: what it holds.
        every: one kind in so many.
        every_key: of JSON, also what is left without each key, or with another kind of value.
    """
    kinds: list[tuple[str, Callable[[], bytes]]] = [(name, partial(change, data)) for name, change in BYTES.items()]
    if documents := _documents(data):
        kinds += [(name, partial(_lines, change, documents)) for name, change in VALUES.items()]
    if every_key and len(documents) == 1:
        kinds += [(name, partial(_lines, lambda _, new=new: new, documents)) for name, new in _keys_gone(documents[0])]
    for name, content in kinds[::every]:
        yield name, content()


def _documents(data: bytes) -> list[Any]:
    """What a JSON document or JSON lines hold; nothing, where it is neither."""
    try:
        return [json.loads(data)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in data.splitlines()]
    except ValueError:
        return []


def _lines(change: Callable[[Any], Any], documents: list[Any]) -> bytes:
    return "\n".join(json.dumps(change(each)) for each in documents).encode("utf-8", "surrogatepass")


def _socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's address is short
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(here)


# What may stand in the place of a file, which is gone.
INSTEAD: dict[str, Callable[[Path], None]] = {
    "nothing": lambda path: None,
    "a folder": lambda path: path.mkdir(),
    "a FIFO": lambda path: os.mkfifo(path),
    "a loop of links": lambda path: path.symlink_to(path.name),
    "a link to nowhere": lambda path: path.symlink_to("nowhere"),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a socket": _socket,
}


def put_instead(path: Path, kind: str) -> None:
    """Put something else in the place of a file or folder."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    INSTEAD[kind](path)
