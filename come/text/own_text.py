"""A text that is somebody's own file: plain, or documents in the rows of a table or of JSON."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any

from come import reading
from come.errors import ComeError, reason_of
from come.settings import expanded, file_and_column, is_text
from come.text import documents
from come.text.apart import Refused
from come.text.chat import Conversation, plainly, template_of
from come.text.documents import Content, join
from come.text.forms import FIELDS, KNOWN, TEXT, Form, Unfit, are_rows, column, forms_of, is_empty
from come.text.rows import SUFFIXES as OF_ROWS
from come.text.rows import Row, entries, rows

SUFFIXES = (".txt", *OF_ROWS)
ENDINGS = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
_MEND = 'Mend it: {"text": "..."} is the simplest form'


@dataclass
class _Tally:
    """What the rows of a file turned out to be.

    Attributes:
        conversations: how many are conversations; ``plain`` of them are written without the chat template.
        reason: why the template refused the first of these.
        empty: how many hold nothing. left_out: how many parts of conversations are no text.
    """

    conversations: int = 0
    plain: int = 0
    reason: str = ""
    empty: int = 0
    left_out: int = 0


def read_file(name: str, tokenizer: Any = None) -> Content:
    """The text of a file.

    Args:
        name: its path, with the column to read behind a colon where its fields are of no known form.
        tokenizer: the model's, whose chat template conversations go through; without one they are written plainly.

    Raises:
        ComeError: it is missing, unreadable, not UTF-8, of an unknown form, or no text.
    """
    path, wanted = _found(name)
    with _in_sentences(path):
        if path.suffix.lower() in OF_ROWS:
            content = _of_rows(path, wanted, tokenizer)
        else:
            with path.open(encoding="utf-8-sig", newline="") as file:
                text = file.read(documents.MAX_CHARACTERS)
                content = Content(text, f"plain text; {_cut()}" if file.read(1) else "")
    if "\0" in content.characters:
        raise ComeError(f"{path} is not text: it holds NUL characters.", "Name a file of plain text.")
    return content


def lines_of(name: str) -> list[str]:
    """The lines of a .txt, each with its end; blank ones are empty.

    Raises:
        ComeError: as ``read_file`` does; or it has no lines to draw from, or is too large.
    """
    path, _ = _found(name)
    if path.suffix.lower() in OF_ROWS:
        raise ComeError(f"Rows are drawn from the lines of a .txt, which {path} is not.", "Name a .txt.")
    if path.stat().st_size > reading.LARGEST:
        raise ComeError(f"{path} is larger than {reading.LARGEST >> 20} MiB.", "Name a smaller file to draw rows from.")
    with _in_sentences(path), path.open(encoding="utf-8-sig") as file:
        lines = [line if line.strip() else "" for line in file]
    if any("\0" in line for line in lines):
        raise ComeError(f"{path} is not text: it holds NUL characters.", "Name a file of plain text.")
    return lines


def form_of_file(name: str) -> str:
    """In which form a file will be read, by its first row that holds something; "" for plain text.

    Raises:
        ComeError: as ``read_file`` does.
    """
    path, wanted = _found(name)
    with _in_sentences(path):
        if path.suffix.lower() not in OF_ROWS:
            return ""
        telling = _telling(path, wanted)
        if telling is None:
            return ""
        row, form = telling
        tally = _Tally(conversations=isinstance(_document(row, form, path), Conversation))
        return _told(form, tally, None, False)


def _found(name: str) -> tuple[Path, str]:
    """The file that a name means, and its column."""
    file, wanted = file_and_column(name)
    path = expanded(file)
    if not is_text(file):
        raise ComeError(f"{ascii(file)[1:-1][:200]} is no text, and no file's name.", "Rename the file.")
    if os.path.isdir(path):
        raise ComeError(f"{path} is a folder.", f"Name a {ENDINGS} file in it.")
    if not os.path.exists(path):
        raise ComeError(f"There is no file {path}.", "Check the path of the text.")
    if not os.path.isfile(path):
        raise ComeError(f"{path} is no plain file.", "Name a file that holds the text.")
    if path.suffix.lower() not in SUFFIXES:
        raise ComeError(f"{path} is not a text that can be read.", f"Name a file that ends in {ENDINGS}.")
    return path, wanted


def _of_rows(path: Path, wanted: str, tokenizer: Any) -> Content:
    telling = _telling(path, wanted)
    if telling is None:
        return Content("")
    form, write, tally = telling[1], template_of(tokenizer), _Tally()
    texts = _texts(_rows(path, wanted), form, path, write, tally)
    begun = next(texts, "")
    # A chat template sets its own marks between conversations; other documents have an empty line between them.
    templated = write is not None and tally.conversations > 0
    text = join(chain([begun], texts), between="") if templated else join(chain([begun], texts))
    is_cut = len(text) >= documents.MAX_CHARACTERS or next(texts, None) is not None
    told = _told(form, tally, tokenizer, write is not None)
    return Content(text, f"{told}; {_cut()}" if is_cut else told)


def _rows(path: Path, wanted: str) -> Iterator[Row]:
    """The rows of a file; where what is wanted of them are lists of rows, the rows of these."""
    for row in rows(path, {wanted} if wanted else FIELDS):
        if wanted and are_rows(row.values.get(wanted)):
            yield from entries(row, wanted)
        else:
            yield row


def _telling(path: Path, wanted: str) -> tuple[Row, Form] | None:
    """The first row that holds something, and the form that it tells; None where all hold nothing."""
    for row in _rows(path, wanted):
        for form in _forms(row, wanted, path):
            if not _is_empty(row, form):
                return row, form
    return None


def _forms(row: Row, wanted: str, path: Path) -> list[Form]:
    """The forms that a row may be of: that of the column that was asked for, or those that its fields make."""
    there = list(row.values)
    named = ", ".join(f'"{name}"' for name in there[:12]) + (" and more" if len(there) > 12 else "") or "none"
    if wanted and not row.listed:
        if wanted in there:
            return [column(wanted)]
        near = get_close_matches(wanted, there, n=1)
        hint = f'Did you mean "{near[0]}"?' if near else f"Its fields are: {named}."
        raise ComeError(f'{path} has no column "{wanted}".', hint)
    forms = forms_of(row.values)
    if not forms:
        raise ComeError(
            f"{path} has the fields {named}, which make none of the known forms: {KNOWN}.", _columns_hint(row, path)
        )
    return forms


def _is_empty(row: Row, form: Form) -> bool:
    try:
        return is_empty(form.document(row.values))
    except Unfit:  # it holds something, and is refused when it is read
        return False


def _columns_hint(row: Row, path: Path) -> str:
    """Which column to name; a null one, of which later rows may tell more, only where no other can be read."""
    full: list[str] = []
    null: list[str] = []
    for name, value in row.values.items():
        if are_rows(value):
            full.append(name)
            continue
        with suppress(Unfit):
            (null if is_empty(column(name).document(row.values)) else full).append(name)
    if row.listed or not full + null:
        return f"{_MEND}."
    return f"Name the one to read behind a colon, such as {path.name}:{(full + null)[0]}."


def _texts(
    found: Iterable[Row], form: Form, path: Path, write: Callable[[Conversation], str] | None, tally: _Tally
) -> Iterator[str]:
    """The documents of rows as texts; what is noteworthy of them is counted."""
    for row in found:
        document = _document(row, form, path)
        if isinstance(document, Conversation):
            tally.left_out += document.left_out
            text = "" if document.is_empty else _written(document, write, tally)
        else:
            text = document or ""
        if not text.strip() and (document is None or form is not TEXT):
            tally.empty += 1
            continue
        if any("\ud800" <= character <= "\udfff" for character in text):  # which no tokenizer takes
            raise _unfit(row, f'has no field "{form.fields[0]}" that holds a string of whole characters', path)
        yield text


def _document(row: Row, form: Form, path: Path) -> str | Conversation | None:
    try:
        return form.document(row.values)
    except Unfit as error:
        raise _unfit(row, str(error), path) from error


def _unfit(row: Row, what: str, path: Path) -> ComeError:
    return ComeError(f"{row.place} {what}.", f"{_MEND}; or name a column to read, such as {path.name}:body.")


def _written(asked: Conversation, write: Callable[[Conversation], str] | None, tally: _Tally) -> str:
    tally.conversations += 1
    if write is None:
        return plainly(asked)
    try:
        return write(asked)
    except Refused as error:
        tally.plain += 1
        tally.reason = tally.reason or reason_of(error, 100)
        return f"{plainly(asked)}\n\n"


def _told(form: Form, tally: _Tally, tokenizer: Any, has_template: bool) -> str:
    """In which form a file was read, in words."""
    plain = 'a line a turn, such as "user: ..."'
    if not tally.conversations:
        how = ""
    elif tokenizer is None:
        how = ", through the model's chat template, where it has one"
    elif not has_template:
        how = f", {plain}, because the model has no chat template"
    elif tally.plain == tally.conversations:
        how = f", {plain}, because the model's chat template refuses them ({tally.reason})"
    elif tally.plain:
        some = f"{tally.plain:,} of {tally.conversations:,}"
        how = f", through the model's chat template, but {some}, which it refuses ({tally.reason}), {plain}"
    else:
        how = ", through the model's chat template"
    empty = f"; {tally.empty:,} empty rows left out" if tally.empty else ""
    left_out = f"; {tally.left_out:,} parts that are no text left out" if tally.left_out else ""
    return f"{form.name}{how}{empty}{left_out}"


def _cut() -> str:
    return f"its first {documents.MAX_CHARACTERS:,} characters"


@contextmanager
def _in_sentences(path: Path) -> Iterator[None]:
    """Turns what reading a file raises into one sentence."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise ComeError(f"{path} is not UTF-8 text.", "Convert it to UTF-8, or name another file.") from error
    except OSError as error:
        raise ComeError(f"{path} cannot be read: {error.strerror}.", "Check that you may read it.") from error
