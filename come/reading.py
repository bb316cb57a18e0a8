"""Reading files that anything may have happened to: regular files only, bounded, and one sentence of what is wrong.

A file of a run may be torn, foreign, damaged or made to do harm. So nothing is opened that could block (a FIFO),
nothing is read beyond a limit, and no value is handed on that is nested deeply, not finite, or larger than a machine's
integer.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from come.errors import ComeError, reason_of

if TYPE_CHECKING:
    from torch import Tensor

LARGEST = 64 << 20  # bytes of one JSON document
DEEPEST = 40  # objects and lists inside each other
_LARGEST_INT = 2**63
_OF_OURS = "It is damaged, or of another version of this program: take a whole copy of it, or do without it."
_NONBLOCK = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)

Kind = TypeVar("Kind")


@contextmanager
def opened(path: Path, hint: str = _OF_OURS) -> Iterator[IO[bytes]]:
    """A regular file, open for reading; nothing is waited for.

    Args:
        path: the file.
        hint: what to do where it cannot be read.

    Raises:
        FileNotFoundError: there is none.
        ComeError: it is something else, or may not be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | _NONBLOCK)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args) from error
    except PermissionError as error:
        raise unreadable(path, "this user may not read it", "Check its permissions.") from error
    except (OSError, ValueError) as error:  # ValueError: NUL in a name
        raise unreadable(path, getattr(error, "strerror", None) or reason_of(error), hint) from error
    with os.fdopen(descriptor, "rb") if _is_regular(descriptor) else _refused(descriptor, path, hint) as file:
        yield file


def is_there(path: Path) -> bool:
    """Whether a name is taken, by whatever; False also where the folder may not be looked into."""
    return os.path.lexists(path)


def bytes_of(path: Path, largest: int | None = LARGEST) -> bytes:
    """What a file holds.

    Args:
        path: the file.
        largest: how many bytes it may have; None for any number.

    Raises:
        FileNotFoundError: there is none.
        ComeError: it is no regular file, may not be read, or is larger.
    """
    with opened(path) as file:
        try:
            data = file.read() if largest is None else file.read(largest + 1)
        except (OSError, MemoryError) as error:
            raise unreadable(path, reason_of(error)) from error
    if largest is not None and len(data) > largest:
        raise unreadable(path, f"it is larger than {largest >> 10:,} KiB")
    return data


def tail_of(path: Path, longest: int) -> bytes:
    """The last bytes of a file, or all of it.

    Raises:
        FileNotFoundError, ComeError: as for ``bytes_of``.
    """
    with opened(path) as file:
        try:
            file.seek(max(0, os.fstat(file.fileno()).st_size - longest))
            return file.read(longest)
        except OSError as error:
            raise unreadable(path, reason_of(error)) from error


def document(path: Path, kind: TypeAdapter[Kind], largest: int = LARGEST) -> Kind:
    """A JSON document of a kind.

    Args:
        path: the file.
        kind: what it holds, with the ranges of its values.
        largest: how many bytes it may have.

    Raises:
        FileNotFoundError: there is none.
        ComeError: it is no such document; the sentence names the file and what is wrong.
    """
    return validated(values_in(bytes_of(path, largest), str(path)), kind, str(path))


def values_in(data: bytes, name: str, not_finite_is_none: bool = False) -> Any:
    """The values of a JSON text.

    Args:
        data: the text.
        name: of the file, for the sentence.
        not_finite_is_none: read NaN and infinities, which JSON has no word for, as nothing.

    Raises:
        ComeError: it is no JSON, nested too deeply, or holds numbers that are none.
    """
    try:
        values = from_json(data)
    except (ValueError, RecursionError, MemoryError) as error:
        raise unreadable(name, f"it is no JSON document ({reason_of(error)})") from error
    return bounded(values, name, not_finite_is_none)


def bounded(values: Any, name: str, not_finite_is_none: bool = False) -> Any:
    """Plain values, after a look whether each may be handed on.

    Raises:
        ComeError: they are nested too deeply, or hold numbers that are infinite, none or too large, or NUL.
    """
    try:
        return _bounded(values, not_finite_is_none)
    except ValueError as error:
        raise unreadable(name, reason_of(error)) from error


def validated(values: Any, kind: TypeAdapter[Kind], name: str) -> Kind:
    """Values as a kind of document.

    Raises:
        ComeError: they are none; the sentence says where.
    """
    try:
        return kind.validate_python(values)
    except ValidationError as error:
        raise unreadable(name, first_of(error)) from error
    except (RecursionError, OverflowError, MemoryError) as error:
        raise unreadable(name, reason_of(error)) from error


def first_of(error: ValidationError) -> str:
    """Where a document goes wrong first, and how, in a few words."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:60] for part in first["loc"][:6]) or "the document"
    # Pydantic names our classes, and says of our own sentences that they are errors.
    said = "it should be an object" if first["type"] == "model_type" else first["msg"].removeprefix("Value error, ")
    return f"{where}: {said[:200].rstrip('.')}"


def unreadable(name: Path | str, reason: str, hint: str = _OF_OURS) -> ComeError:
    """The sentence that a file cannot be read, and why."""
    return ComeError(f"{name} cannot be read: {reason}.", hint)


def tensors_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file by name, and the texts in its header.

    Raises:
        FileNotFoundError: there is none.
        ComeError: it is no such file, or not whole.
    """
    from safetensors import safe_open

    with opened(path):
        pass  # else a FIFO would be waited for
    try:
        with safe_open(os.fspath(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except Exception as error:  # safetensors has classes of its own, and torch others
        raise unreadable(path, reason_of(error)) from error


def require_finite(path: Path | str, tensors: dict[str, Tensor]) -> None:
    """See that every number of some tensors is one.

    Raises:
        ComeError: one is not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise unreadable(path, f"{name[:80]} holds values that are not numbers")


def stamp(path: Path) -> tuple[int, int, int, int] | None:
    """What changes when a file does; None where there is none or it may not be looked at."""
    try:
        known = path.stat()
    except (OSError, ValueError):
        return None
    return known.st_mtime_ns, known.st_size, known.st_ino, known.st_mode


def _bounded(values: Any, not_finite_is_none: bool, depth: int = 0) -> Any:
    if isinstance(values, float) and not math.isfinite(values):
        if not_finite_is_none:
            return None
        raise ValueError("a number is infinite or none")
    if isinstance(values, int) and not isinstance(values, bool) and abs(values) >= _LARGEST_INT:
        raise ValueError("a number is too large")
    if isinstance(values, str) and "\0" in values:
        raise ValueError("a text holds NUL")
    if isinstance(values, dict | list):
        if depth >= DEEPEST:
            raise ValueError("it is nested too deeply")
        if isinstance(values, dict):
            return {name: _bounded(value, not_finite_is_none, depth + 1) for name, value in values.items()}
        return [_bounded(value, not_finite_is_none, depth + 1) for value in values]
    return values


def _is_regular(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _refused(descriptor: int, path: Path, hint: str) -> IO[bytes]:
    folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    raise unreadable(path, "it is a folder" if folder else "it is no regular file", hint)
