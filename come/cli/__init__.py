"""The command line: `come`. The only part of the library that prints."""

from __future__ import annotations

import os
import re
import sys
import traceback
from collections.abc import Sequence

import typer

from come.cli import check, doctor, evaluate, export, grow, models, page, prune, push, report, runs, sweep, track
from come.cli.request import with_options
from come.errors import ComeError, is_panic
from come.runs import RunFault

FAULT, USER_ERROR, CANCELLED = 1, 2, 130

app = typer.Typer(
    name="come",
    help="Make a language model shallower: measure its layers, merge the least important, see the cost.\n\n"
    "Begin with `come run --target-layers 27`, which prunes the bundled model; `come models` and "
    "`come methods` list what else there is, and `come app` opens all of it in the browser.",
    rich_markup_mode="rich",
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.callback()
def _main(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback where the fault is the program's."),
) -> None:
    """Read in `main`, which sees every error."""


prune.add_to(app)
sweep.add_to(app)
evaluate.add_to(app)
grow.add_to(app)
models.add_to(app)
export.add_to(app)
check.add_to(app)
push.add_to(app)
report.add_to(app)
track.add_to(app)
page.add_to(app)
doctor.add_to(app)
app.add_typer(runs.app, name="runs")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns 0, 2 for a user's error, 1 for a fault of ours, 130 where it was cancelled."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _quieten_libraries()
    _tell_any_name()
    try:
        status = app(given or ["--help"], prog_name="come", standalone_mode=False) or 0
    except ComeError as error:
        return _say(with_options(str(error)), USER_ERROR)
    except typer.TyperException as error:
        return _say(f"{error.format_message().rstrip('.')}. {_help_for(error)}", USER_ERROR)
    except RunFault as error:
        return _say(str(error), FAULT)
    except BrokenPipeError:
        return _let_go()
    except SystemExit as leaving:
        if not isinstance(leaving.__context__, BrokenPipeError):  # which typer makes an exit of
            raise
        return _let_go()
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        if "--debug" in given:
            traceback.print_exc()
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        return _say(f"This is a fault of ours: {reason}. `come --debug ...` shows where.", FAULT)
    return _say("Cancelled.", CANCELLED) if status == CANCELLED else int(status)


def _help_for(error: typer.TyperException) -> str:
    """Where to read on: a word that is no command is often one of the commands for runs."""
    context = getattr(error, "ctx", None)
    if context is None:
        return ""
    unknown = re.match(r"No such command '(\w+)'", error.format_message())
    if unknown and unknown[1] in {each.name for each in runs.app.registered_commands}:
        return f"Did you mean `come runs {unknown[1]}`?"
    model = "A model is named with --model. " if "unexpected extra argument" in error.format_message() else ""
    return f"{model}`{context.command_path} --help` tells what it takes."


def _let_go() -> int:
    """The reader of our output has had enough, which is no fault."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _say(sentence: str, status: int) -> int:
    told = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in " ".join(sentence.split()))
    print(told, file=sys.stderr)
    return status


def _tell_any_name() -> None:
    """Files may have names that are no text: they are told with marks in the place of what cannot be."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _quieten_libraries() -> None:
    """Keep stderr to our own one line where nobody watches. Libraries read this when they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not sys.stderr.isatty():
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
