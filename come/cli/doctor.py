"""`come doctor`: what is wrong with this machine, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from come.cli.screen import AsJson, show, show_json, show_table

BAD = 2  # the exit status


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(
    thorough: Annotated[
        bool, typer.Option("--thorough", help="Read whole files and compare their hashes, which may take minutes.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """Look at device, memory, disk, versions, caches and network: what is wrong, and what to do.

    Nothing is changed. The exit status is 2 where something is bad, else 0.

    [bold]Example[/bold]

    come doctor --thorough
    """
    from come.doctor import checks

    found = list(checks(thorough))
    if as_json:
        show_json([asdict(each) for each in found])
    else:
        show_table(["", "check", "found"], [[each.state, each.name, each.found] for each in found])
        for each in found:
            if each.advice:
                show(f"\n{each.name}: {each.advice}")
    return BAD if any(each.state == "bad" for each in found) else 0
