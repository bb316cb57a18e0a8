"""`come export`: a pruned model as one GGUF file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from come.cli.request import Runs, named_run
from come.cli.screen import AsJson, progress, show, show_json
from come.events import emit
from come.files import human_bytes
from come.runs.documents import STATE

_SHORT = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("export")(export)


def export(
    model: Annotated[
        str,
        typer.Argument(help="A finished run, by its id or directory; or a folder with a model.", metavar="MODEL"),
    ],
    gguf: Annotated[Path, typer.Option("--gguf", help="The file to write, such as model.gguf; it must be new.")],
    dtype: Annotated[
        str,
        typer.Option("--dtype", help="What the weights are written in: f32, bf16, f16, or q8_0 (about 8 bits each)."),
    ] = "f16",
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Write a pruned model as one GGUF file, which llama.cpp, Ollama and LM Studio run.

    The tokenizer and the chat template are in it. Where a run kept its plan only, the model is made from it first.

    [bold]Examples[/bold]

    The model of a run:  come export 20261122-1415 --gguf smollm2-27-layers.gguf

    Half that size again, from a folder:  come export ./smollm2-27-layers --gguf smollm2-27-layers-q8.gguf --dtype q8_0
    """
    kind = _SHORT.get(dtype.lower(), dtype.lower())
    with progress() as on_progress:
        path = Path(model).expanduser()
        if os.path.isdir(path) and not os.path.lexists(path / STATE):
            from come.export.gguf_write import write_gguf
            from come.models.facts import license_of

            written = write_gguf(path, gguf, kind, license_of(str(path)), on_progress)
        else:
            from come.runs.materialize import write_gguf_of

            written = write_gguf_of(
                named_run(model, runs), gguf, kind, lambda message: emit(on_progress, "export", 0, 1, message)
            )
    size = written.stat().st_size
    if as_json:
        show_json({"file": str(written.resolve()), "bytes": size, "dtype": kind})
    else:
        show(f"{human_bytes(size)} in {kind}: {written.resolve()}")
