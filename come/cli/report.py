"""`come report`: runs as one HTML file that one can hand in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from come.cli.request import Runs, named_run
from come.cli.screen import AsJson, show, show_json
from come.files import human_bytes


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("report")(report)


def report(
    run: Annotated[
        list[str],
        typer.Argument(
            help="Runs that are done, each by its id, enough of its beginning, or directory.", metavar="RUN"
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write, such as report.html; it must be new.")],
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Write runs as one HTML file that needs no network: the verdict, before and after, charts, plans, how it was made.

    It prints well, holds no path of this machine, and opens in any browser. A run that is damaged or not done is left
    out with a sentence.

    [bold]Examples[/bold]

    One run:  come report 20261122-1415 --out report.html

    Several, compared:  come report runs/* --out report.html
    """
    from come.report.html import write

    written = write([named_run(name, runs) for name in run], out)
    size = written.stat().st_size
    if as_json:
        show_json({"file": str(written.resolve()), "bytes": size})
    else:
        show(f"{human_bytes(size)}: {written.resolve()}")
