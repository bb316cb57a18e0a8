"""The header of a safetensors file, checked against the file: read here before another library believes it."""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

from come.bounded_json import parse_json, plain_file
from come.errors import ComeError

_LONGEST, _PARTS = 16 << 20, 1_000_000  # of a header; the format itself allows 100 MB
_LARGEST = 1 << 48
_BITS = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
AGAIN = "Fetch or copy the model again, whole."

Header = dict[str, tuple[str, tuple[int, ...]]]


def header_of(path: Path) -> Header:
    """The dtype, as the format spells it ("BF16"), and the shape of each weight in a file, by name.

    Raises:
        ComeError: the header is longer than the file or than any model's, is no JSON, or describes weights that do
            not fill the file one after the other.
    """
    with plain_file(path) as file:
        told = os.fstat(file.fileno())
    return _read(path, told.st_size, told.st_mtime_ns)


@lru_cache(maxsize=8)
def _read(path: Path, size: int, mtime_ns: int) -> Header:
    del mtime_ns  # part of the cache's key only: a file may be written anew
    with plain_file(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _damaged(path)
        if length > _LONGEST:
            raise ComeError(f"{path} has a header of {length:,} bytes; at most {_LONGEST:,} are read.", again(path))
        document = parse_json(file.read(length), f"The header of {path}", 8, _PARTS)
    if not isinstance(document, dict):
        raise _damaged(path)
    document.pop("__metadata__", None)
    found = {name: _weight(path, name, told) for name, told in document.items()}
    at = 0
    for begin, end in sorted(place for _, _, place in found.values()):
        if begin != at:
            raise _damaged(path)
        at = end
    if at != size - 8 - length:
        raise _damaged(path)
    return {name: (dtype, shape) for name, (dtype, shape, _) in found.items()}


def _weight(path: Path, name: str, told: Any) -> tuple[str, tuple[int, ...], tuple[int, int]]:
    """A weight's dtype, shape, and where it begins and ends."""
    match told:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(begin), int(end)]}:
            if dtype not in _BITS:
                raise ComeError(
                    f"{path} holds {name[:200]} in numbers of an unknown kind ({dtype[:40]!r}).", again(path)
                )
            if len(shape) <= 16 and all(type(each) is int and 0 <= each <= _LARGEST for each in shape):
                bits = prod(shape) * _BITS[dtype]
                if 0 <= begin <= end <= _LARGEST and bits == 8 * (end - begin):
                    return dtype, tuple(shape), (begin, end)
    raise ComeError(f"The header of {path} contradicts itself about {name[:200]!r}.", again(path))


def again(path: Path) -> str:
    """How to come by a file of weights anew: a pruned model's are made from its plan, which lies beside them."""
    plan = path.parent / "plan.json"
    return f"Make the model again: come rebuild {plan} --out FOLDER" if plan.is_file() else AGAIN


def _damaged(path: Path) -> ComeError:
    return ComeError(f"{path} cannot be read: it is cut short or damaged.", again(path))
