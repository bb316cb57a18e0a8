"""A plan as a visitor uploads it: .json, its text, or the .zip with weights that a run's page packs."""

from __future__ import annotations

import struct
import zipfile
import zlib
from io import BytesIO
from pathlib import PurePosixPath

from app.plan import as_text
from app.state import request, session
from app.state.choice import Choice, Draft
from come.errors import ComeError
from come.files import human_bytes

LONGEST = 1 << 20  # bytes of a plan
LARGEST_ZIP = 200 << 20  # bytes, the weights beside it included
MOST_FILES = 1_000  # in a .zip
TEXT = (".yaml", ".yml")  # a plan as the page writes it
PLAN = "plan.json"
AGAIN = "Upload a plan that was downloaded here: .json, .yaml, or .zip with its weights."
_CONTENTS = 1 << 20  # bytes of a .zip's list of files
_END = struct.Struct("<4s4H2LH")  # how a .zip without a comment ends
_MORE = struct.Struct("<4s16x")  # and what stands before it where 16 and 32 bits do not do
_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError)


def is_zip(name: str) -> bool:
    """Whether a file of that name is a plan with its weights."""
    return name.lower().endswith(".zip")


def longest(name: str) -> int:
    """How many bytes a file of that name may have."""
    return LARGEST_ZIP if is_zip(name) else LONGEST


def read(name: str, data: bytes) -> tuple[Choice, Draft]:
    """The choice and the plan of a file; the text of a plan is of the model that is chosen.

    Raises:
        ComeError: it is no plan.
    """
    kind = PurePosixPath(name).suffix.lower()
    if kind in TEXT:
        return session.choice(), as_text.from_text(data.decode("utf-8", errors="replace"))
    if kind == ".zip":
        return request.from_json(plan_in(data))
    if kind != ".json":
        raise ComeError("This file is no plan.", AGAIN)
    return request.from_json(data)


def plan_in(data: bytes) -> bytes:
    """What the plan.json in a .zip holds; nothing else in it is unpacked.

    Raises:
        ComeError: it is no .zip, holds none or several, more files than are looked through, or one that is locked,
            packed in a way of its own, too large, or not what its list says.
    """
    _check_list(data)
    try:
        with zipfile.ZipFile(BytesIO(data)) as packed:
            found = [file for file in packed.infolist() if PurePosixPath(file.filename).name == PLAN]
            if len(found) != 1:
                raise ComeError(f"This .zip holds {'several' if found else 'no'} {PLAN}.", AGAIN)
            _check_plan(found[0])
            with packed.open(found[0]) as file:
                return file.read(LONGEST)
    except _UNREADABLE:
        raise ComeError(f"The {PLAN} in this .zip cannot be read.", "Download it again, whole.") from None


def _check_list(data: bytes) -> None:
    """Refuse a list of files that would take long, before any of it is made."""
    end = data[-_END.size :]
    if len(end) < _END.size or not end.startswith(b"PK\5\6") or not end.endswith(b"\0\0"):
        raise ComeError("This file is no .zip that can be read.", AGAIN)
    _, _, _, _, files, length, _, _ = _END.unpack(end)
    larger = data[-_END.size - _MORE.size :].startswith(b"PK\6\7")
    if larger or files > MOST_FILES or length > _CONTENTS:
        raise ComeError("This .zip holds more files than are looked through.", AGAIN)


def _check_plan(file: zipfile.ZipInfo) -> None:
    if file.flag_bits & 1:
        raise ComeError(f"The {PLAN} in this .zip is locked by a password.", "Unlock it first.")
    if file.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others take memory as they like
        raise ComeError(f"The {PLAN} in this .zip is packed in a way that is not read here.", "Upload it unpacked.")
    if file.file_size > LONGEST:
        raise ComeError(
            f"The {PLAN} in this .zip has {human_bytes(file.file_size)}, and at most {human_bytes(LONGEST)} are read.",
            AGAIN,
        )
