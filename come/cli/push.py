"""`come push`: a pruned model to the hub."""

from __future__ import annotations

from typing import Annotated

import typer

from come.cli.request import Runs, named_run
from come.cli.screen import AsJson, progress, show, show_json, show_table
from come.events import emit
from come.files import human_bytes
from come.runs import Run


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("push")(push)


def push(
    run: Annotated[str, typer.Argument(help="A finished run, by its id or directory.", metavar="RUN")],
    repo: Annotated[
        str,
        typer.Argument(help="What it is to be called on the hub; made there if there is none.", metavar="OWNER/NAME"),
    ],
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell what would be sent, and send nothing. Takes no token and no network."),
    ] = False,
    private: Annotated[bool, typer.Option("--private", help="Only you see it; otherwise a new one is public.")] = False,
    revision: Annotated[str, typer.Option("--revision", help="The branch to commit to; made if there is none.")] = "",
    message: Annotated[str, typer.Option("--message", help="The commit's message.")] = "",
    dtype: Annotated[
        str | None,
        typer.Option("--dtype", help="The weights' dtype: float32, bfloat16 or float16; the run's own by default."),
    ] = None,
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Send a pruned model to the Hugging Face hub, where others load it by its name.

    The model goes as a plain Transformers folder, with its plan, its results and a card that names the base model and
    the perplexity and accuracy of both. Where the run kept its plan only, the model is made from it first.

    It needs a token that may write (make one in the hub's settings), in the environment: HF_TOKEN=hf_... come push ...
    A push that broke off can be repeated: nothing shows on the hub before all of it is there.

    [bold]Examples[/bold]

    What would be sent:  come push 20261122-1415 my-name/smollm2-27-layers --dry-run

    Send it, for your eyes only:  come push 20261122-1415 my-name/smollm2-27-layers --private
    """
    found = named_run(run, runs)
    if dry_run:
        _tell_ahead(found, repo, dtype, as_json)
        return
    from come.export.hub import Destination
    from come.runs.push import push as push_run

    with progress() as on_progress:
        to = Destination(repo, private, revision, message)
        pushed = push_run(found, to, lambda told: emit(on_progress, "push", 0, 1, told), dtype)
    show_json(pushed) if as_json else show(f"Pushed: {pushed.url}")


def _tell_ahead(run: Run, repo: str, dtype: str | None, as_json: bool) -> None:
    from come.runs.push import preview

    ahead = preview(run, repo, dtype, look_at_files=True)
    if as_json:
        show_json(ahead)
        return
    rows = [(name, human_bytes(size)) for name, size in ahead.files.items()]
    if ahead.made_bytes:
        rows.append((f"the model, made from the plan, in {ahead.dtype}", f"about {human_bytes(ahead.made_bytes)}"))
    show_table(("file", "size"), rows)
    about = "about " if ahead.made_bytes else ""
    show(f"\nTo {repo}: {about}{human_bytes(ahead.bytes)}. The card begins with:\n\n{ahead.card}\n\nNothing was sent.")
