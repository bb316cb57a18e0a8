"""`come check`: whether an engine runs a pruned model and says what it says here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from come.cli.screen import AsJson, show, show_json, show_table
from come.errors import ComeError


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("check")(check)


def check(
    model: Annotated[str, typer.Argument(help="A folder that Transformers loads, or a .gguf file.", metavar="MODEL")],
    engine: Annotated[str, typer.Option("--engine", help="transformers, vllm or llama.cpp.")] = "transformers",
    new_tokens: Annotated[int, typer.Option("--new-tokens", min=1, max=256, help="How many, of each prompt.")] = 32,
    as_json: AsJson = False,
) -> None:
    """See that an engine runs a model: it writes on from four prompts, token by token beside what the model says here.

    Where two tokens are as good as level (0.1 nats), rounding may exchange them, and what follows is another text; any
    other difference is told, and ends with status 2.

    [bold]Examples[/bold]

    What a run kept, in plain Transformers:  come check runs/20261122-141530-come-27-x7k2/model

    Its GGUF file, in llama.cpp:  come check model.gguf --engine llama.cpp
    """
    from come.engines import check as checked

    found = checked(model, engine, new_tokens=new_tokens)
    if as_json:
        show_json({**asdict(found), "agrees": found.agrees})
    else:
        rows = [
            (each.prompt.strip(), _found(each.prompt_alike, each.alike, each.count, each.gap)) for each in found.prompts
        ]
        show_table(("prompt", f"{engine} {found.version}"), rows)
    if not found.agrees:
        raise ComeError(
            f"{engine} does not say what the model says.", "Its tokenizer or its reading of the model differs."
        )
    if not as_json:
        show(f"\n{engine} runs it.")


def _found(prompt_alike: bool, alike: int, count: int, gap: float) -> str:
    if not prompt_alike:
        return "cut into other tokens"
    if alike == count:
        return f"{count} of {count} tokens alike"
    return f"{alike} of {count} tokens alike, then one that is {gap:.3f} nats less likely"
