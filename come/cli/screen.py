"""What the commands show: JSON or a table on stdout, progress on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table
from rich.text import Text

from come.events import Event, OnProgress
from come.numbers import perplexity_text

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def show_json(value: Any) -> None:
    """One JSON document on stdout."""
    plain = json.loads(json.dumps(value, default=_plain), parse_constant=lambda _: None)  # JSON has no word for NaN
    print(json.dumps(plain, indent=1))


def show_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table on stdout; numbers stand to the right."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, column in enumerate(columns):
        numbers = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
        table.add_column(column, justify="right" if rows and numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    screen = Console()
    (screen if screen.is_terminal else Console(width=200)).print(table)  # a file has no edge to wrap at


def show(line: str) -> None:
    """One line on stdout, as it is."""
    print(line)


@contextmanager
def progress() -> Iterator[OnProgress]:
    """A callback that draws a bar a stage on stderr, or None where nobody watches."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield None
        return
    # The words take what room is left.
    words_column = TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis"))
    columns = (BarColumn(20), TaskProgressColumn(), TimeElapsedColumn(), words_column)
    with Progress(*columns, console=console, expand=True) as bars:
        tasks: dict[str, TaskID] = {}

        def draw(event: Event) -> None:
            if event.stage not in tasks:
                tasks[event.stage] = bars.add_task(event.stage, total=event.of)
            words = f"{event.stage}: {event.message}" if event.message else event.stage
            bars.update(tasks[event.stage], completed=event.step, total=event.of, description=escape(words))

        yield draw


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return perplexity_text(value)  # nothing else in a table is so large that it would show
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    return str(value) if isinstance(value, Path) else list(value)
