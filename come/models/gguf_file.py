"""A .gguf file's header, read within bounds and checked against the file, before another library believes it."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from math import isfinite, prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from come.bounded_json import plain_file
from come.errors import ComeError

_AGAIN = "Fetch or copy the file again, whole."
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_ENTRIES, _TENSORS = 4096, 16_384
_NAME, _TEXT = 1 << 10, 1 << 20  # bytes of a name, and of a text, such as a chat template
_STRINGS, _NUMBERS = 2_000_000, 4_000_000  # of all lists: the largest vocabulary and its merges have 800,000
_KEPT = 1024  # a longer list is not kept, only counted
_DIMENSIONS, _ELEMENTS = 4, 1 << 44
_ALIGNMENT = 1 << 16


@dataclass(frozen=True)
class Tensor:
    """A tensor of a file: its dimensions, the one that moves fastest first."""

    dimensions: tuple[int, ...]
    begin: int
    end: int

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return prod(self.dimensions)


@dataclass(frozen=True)
class Header:
    """What a file says of its model.

    Attributes:
        values: its entries; a long list is not among them, nor any of the tokenizer's.
        lengths: of each list: how long it is, and the kind of its items, as the format numbers them.
        tensors: by name.
        raw: of each entry that is in ``values``, the bytes that it is in the file.
    """

    values: dict[str, Any]
    lengths: dict[str, tuple[int, int]]
    tensors: dict[str, Tensor]
    raw: dict[str, bytes] = field(repr=False)

    @property
    def elements(self) -> int:
        """How many numbers all tensors have together."""
        return sum(tensor.elements for tensor in self.tensors.values())


def header_of(gguf: Path) -> Header:
    """The header of a .gguf file.

    Raises:
        ComeError: it is none, of a version or byte order that is not read, cut short, or says of itself what cannot
            be: longer than the file or than any model's, a number that is none, tensors that do not lie in the file.
    """
    with plain_file(gguf) as file:
        told = os.fstat(file.fileno())
    return _read(gguf, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(gguf: Path, size: int, mtime_ns: int) -> Header:
    del mtime_ns  # part of the cache's key only: a file may be written anew
    if size < 24:
        raise _cut_short(gguf)
    with plain_file(gguf) as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(gguf, data).header()


class _Reader:
    """Goes through a file from its beginning; ``at`` is how far it is."""

    def __init__(self, gguf: Path, data: mmap.mmap) -> None:
        self.gguf, self.data, self.at = gguf, data, 0
        self.strings = self.numbers = 0

    def header(self) -> Header:
        if self.data[:4] != b"GGUF":
            raise ComeError(f"{self.gguf.name} is no GGUF file.", "Choose another file.")
        self.at = 4
        version = self.number("I")
        if version not in _VERSIONS:
            other = " in the other byte order" if version & 0xFFFF == 0 and version else f" of version {version}"
            raise ComeError(f"{self.gguf.name} is a GGUF file{other}, which is not read.", "Convert it again.")
        tensor_count, entry_count = self.number("Q"), self.number("Q")
        self.no_more(tensor_count, _TENSORS, "tensors")
        self.no_more(entry_count, _ENTRIES, "entries")
        values: dict[str, Any] = {}
        lengths: dict[str, tuple[int, int]] = {}
        raw: dict[str, bytes] = {}
        for _ in range(entry_count):
            self.entry(values, lengths, raw)
        infos = [self.tensor_info() for _ in range(tensor_count)]
        alignment = values.get("general.alignment", 32)
        if type(alignment) is not int or not 1 <= alignment <= _ALIGNMENT or alignment & (alignment - 1):
            raise self.cannot(f"an alignment of {str(alignment)[:40]}")
        start = -(-self.at // alignment) * alignment
        return Header(values, lengths, self.placed(infos, start, alignment), raw)

    def entry(self, values: dict[str, Any], lengths: dict[str, tuple[int, int]], raw: dict[str, bytes]) -> None:
        begin = self.at
        key = self.text(_NAME)
        if key in values or key in lengths:
            raise self.cannot(f"{key!r} twice")
        kind = self.number("I")
        if kind != _ARRAY:
            values[key] = self.value(kind, key)
        else:
            kind, length = self.number("I"), self.number("Q")
            lengths[key] = (length, kind)
            if length > _KEPT or key.startswith("tokenizer."):
                self.skip(kind, length, key)
                return
            self.counted(kind, length)
            values[key] = [self.value(kind, key) for _ in range(length)]
        raw[key] = self.data[begin : self.at]

    def value(self, kind: int, key: str) -> Any:
        if kind == _STRING:
            return self.text(_TEXT)
        if kind not in _SCALARS:
            raise self.cannot(f"a value of kind {kind} as {key!r}")
        value = self.number(_SCALARS[kind])
        if isinstance(value, float) and not isfinite(value):
            raise self.cannot(f"{key!r} {value}, which is no finite number")
        return value

    def skip(self, kind: int, length: int, key: str) -> None:
        """Go past a long list."""
        self.counted(kind, length)
        if kind != _STRING:
            if kind not in _SCALARS:
                raise self.cannot(f"values of kind {kind} in {key!r}")
            self.at += length * struct.calcsize(f"<{_SCALARS[kind]}")
            if self.at > len(self.data):
                raise _cut_short(self.gguf)
            return
        data, at, end = self.data, self.at, len(self.data)
        for _ in range(length):
            size = int.from_bytes(data[at : at + 8], "little")
            at += 8 + size
            if size > _TEXT or at > end:
                raise _cut_short(self.gguf)
        self.at = at

    def counted(self, kind: int, length: int) -> None:
        if kind == _STRING:
            self.strings += length
            self.no_more(self.strings, _STRINGS, "texts in lists")
        else:
            self.numbers += length
            self.no_more(self.numbers, _NUMBERS, "numbers in lists")

    def tensor_info(self) -> tuple[str, tuple[int, ...], int, int]:
        """A tensor's name, dimensions, kind of numbers, and where it begins among the tensors."""
        name, dimensions = self.text(_NAME), self.number("I")
        if dimensions > _DIMENSIONS:
            raise self.cannot(f"{dimensions:,} dimensions of {name!r}")
        return name, tuple(self.number("Q") for _ in range(dimensions)), self.number("I"), self.number("Q")

    def placed(
        self, infos: list[tuple[str, tuple[int, ...], int, int]], start: int, alignment: int
    ) -> dict[str, Tensor]:
        """Where tensors lie in the file; they may neither reach out of it nor into each other."""
        from gguf.constants import GGML_QUANT_SIZES

        sizes = {int(kind): size for kind, size in GGML_QUANT_SIZES.items()}
        found: dict[str, Tensor] = {}
        for name, dimensions, kind, offset in infos:
            if name in found:
                raise self.cannot(f"the tensor {name!r} twice")
            if kind not in sizes:
                raise self.cannot(f"{name!r} in numbers of an unknown kind ({kind})")
            block, block_bytes = sizes[kind]
            elements = prod(dimensions)
            if not 0 < elements <= _ELEMENTS or (dimensions[:1] or (1,))[0] % block:
                raise self.cannot(f"{name!r} of {' x '.join(map(str, dimensions))} numbers")
            begin = start + offset
            tensor = Tensor(dimensions, begin, begin + elements // block * block_bytes)
            if offset % alignment or tensor.end > len(self.data):
                raise ComeError(f"{self.gguf.name} is cut short, or lies: {name!r} does not lie within it.", _AGAIN)
            found[name] = tensor
        places = sorted((tensor.begin, tensor.end) for tensor in found.values())
        if any(end > begin for (_, end), (begin, _) in pairwise(places)):
            raise self.cannot("tensors that lie in each other")
        return found

    def text(self, longest: int) -> str:
        size = self.number("Q")
        if size > longest or self.at + size > len(self.data):
            raise _cut_short(self.gguf)
        self.at += size
        try:
            text = self.data[self.at - size : self.at].decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.cannot("a text that is not UTF-8") from error
        if "\0" in text:
            raise self.cannot("a text with a NUL character")
        return text

    def number(self, kind: str) -> Any:
        size = struct.calcsize(f"<{kind}")
        if self.at + size > len(self.data):
            raise _cut_short(self.gguf)
        self.at += size
        return struct.unpack(f"<{kind}", self.data[self.at - size : self.at])[0]

    def no_more(self, count: int, most: int, what: str) -> None:
        if count > most:
            raise self.cannot(f"{count:,} {what}, of which at most {most:,} are read")

    def cannot(self, what: str) -> ComeError:
        return ComeError(f"{self.gguf.name} cannot be read: it says {what}.", _AGAIN)


def _cut_short(gguf: Path) -> ComeError:
    return ComeError(f"{gguf.name} cannot be read: it is cut short, or says it is longer than it is.", _AGAIN)


@contextmanager
def alone(gguf: Path) -> Iterator[Path]:
    """The file in a folder of its own, under its name: what lies beside it is not read with it."""
    with TemporaryDirectory(prefix="come-gguf-") as folder:
        os.symlink(os.path.abspath(gguf), path := Path(folder) / gguf.name)
        yield path


@contextmanager
def without_vocabulary(gguf: Path) -> Iterator[Path]:
    """A small file of the same name and entries but for words and long lists, with tensors of one number each.

    What a config is made of is all there. Other readers take minutes for the words of a large vocabulary.
    """
    header = header_of(gguf)
    left_out = ("tokenizer.chat_template", "general.alignment")
    kept = [raw for key, raw in header.raw.items() if not key.startswith(left_out)]
    infos = [
        struct.pack("<Q", len(name.encode())) + name.encode() + struct.pack("<IQIQ", 1, 1, 0, 0)
        for name in header.tensors
    ]
    written = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(kept)) + b"".join([*kept, *infos])
    with TemporaryDirectory(prefix="come-gguf-") as folder:
        path = Path(folder) / gguf.name
        path.write_bytes(written + bytes(-len(written) % 32 + 32))
        yield path
