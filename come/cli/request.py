"""A run's request from the command line: each field of it that a command asks for is an option of that command."""

from __future__ import annotations

import functools
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic.fields import FieldInfo

from come.cli.options import option_in, parse_pairs
from come.errors import ComeError
from come.events import OnProgress
from come.reading import unreadable
from come.request import RunConfig
from come.runs import ClusterTarget, Run, cluster_target, execute, find
from come.runs.documents import is_run

# How fields are written that are not named as their options are, or have a short form.
WRITTEN = {
    "model": ("--model", "-m"),
    "text": ("--text", "-t"),
    "n_tokens": ("--tokens",),
    "target_layers": ("--target-layers", "-n"),
    "sparsity": ("--sparsity", "-s"),
    "options": ("--option", "-o"),
    "recover_options": ("--recover-option",),
    "task_limit": ("--limit",),
}
DEFAULTS = {"n_tokens": 8192}  # where it is not the request's

# Fields that go together, each group under a heading of the help.
CALIBRATION = ("text", "n_tokens", "seq_len", "bos")
DEVICE = ("batch_size", "dtype", "device")
RECOVERY = ("recover", "recover_options", "recover_text", "recover_tokens")
EVALUATION = ("evaluate", "tasks", "task_limit", "evaluation_text", "evaluation_tokens")
ANALYSIS = ("span", "similarity", "sbi_tokens", "last_state")
HOW_FAR = "How far to prune"
HEADINGS = {
    **dict.fromkeys(("target_layers", "sparsity"), HOW_FAR),
    **dict.fromkeys((*CALIBRATION, "seed"), "Text"),
    **dict.fromkeys(ANALYSIS, "What is measured"),
    **dict.fromkeys(DEVICE, "Where and how precisely"),
    **dict.fromkeys(RECOVERY, "Recovery after pruning"),
    **dict.fromkeys(EVALUATION, "Evaluation of the result"),
}

Runs = Annotated[Path | None, typer.Option("--runs", help="The folder of runs (else COME_RUNS, else ./runs).")]
On = Annotated[
    str,
    typer.Option("--on", help="local, or Ray: ray://HOST:PORT, ray:auto, HOST:PORT, with ?gpus=0.5 and so on."),
]


def asks_for(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a command of a function whose first argument is a request: these fields of it are options of the command.

    Their help, their type and the least they may be are those of `RunConfig`. A list is written with commas, and a
    mapping as key=value, several times.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def asked(**given: Any) -> None:
            own = {name: value for name, value in given.items() if name not in names}
            command(request_of({name: given[name] for name in names}), **own)

        _, *own = inspect.signature(command, eval_str=True).parameters.values()
        by_name = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        asked.__signature__ = inspect.Signature([*map(_parameter, names), *by_name])  # type: ignore[attr-defined]
        return asked

    return decorate


def option_of(field: str, help: str = "") -> Any:
    """The option of a field of a request; with ``help`` where a command means something of its own by it."""
    known = RunConfig.model_fields[field]
    least = next((each.ge for each in known.metadata if hasattr(each, "ge")), None)
    heading = None if help else HEADINGS.get(field)
    return typer.Option(*_written(field), min=least, help=help or known.description, rich_help_panel=heading)


def with_options(sentence: str) -> str:
    """A sentence that names fields of a request by their options, as they are written here."""
    fields = "|".join(field for field in RunConfig.model_fields if "_" in field)
    # Not in a path or a name in quotes, which are somebody's own.
    return re.sub(rf"(?<![\w/.'-])({fields})(?![\w/'-])", lambda found: _written(found[0])[0], sentence)


def _written(field: str) -> tuple[str, ...]:
    return WRITTEN.get(field, (f"--{field.replace('_', '-')}",))


def _default_of(field: str) -> Any:
    """What an option is where it is not given."""
    return DEFAULTS.get(field, _as_written(RunConfig.model_fields[field])[1])


def _parameter(field: str) -> inspect.Parameter:
    kind, _ = _as_written(RunConfig.model_fields[field])
    return inspect.Parameter(
        field,
        inspect.Parameter.KEYWORD_ONLY,
        default=_default_of(field),
        annotation=Annotated[kind, option_of(field)],
    )


def _as_written(field: FieldInfo) -> tuple[Any, Any]:
    """Of which type an option is that fills the field, and its default."""
    kind, default = field.annotation, field.default
    if typing.get_origin(kind) is dict:
        return list[str] | None, None
    if typing.get_origin(kind) in (list, tuple):
        return str, ",".join(default)
    plain = [str if typing.get_origin(each) is typing.Literal else each for each in _alternatives(kind)]
    return functools.reduce(lambda one, other: one | other, plain), default


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)


def request_of(given: Mapping[str, Any]) -> RunConfig:
    """The request of options as they were written.

    Raises:
        ComeError: one of them cannot be what it is.
    """
    values = dict(given)
    if values.get("preset"):  # it fills in what is left as it is
        values = {name: value for name, value in values.items() if value != _default_of(name)}
    for name in values.keys() & {"evaluate", "tasks", "similarity"}:
        values[name] = [each for each in pieces(values[name]) if each != "none"]
    if "recover" in values:
        from come.recovery.registry import names_of

        values["recover"] = names_of(values["recover"])
        values["recover_options"] = _recovery_options(values["recover"], values["recover_options"] or [])
    if "options" in values:
        from come.pruning.registry import PAPER, method_for, methods

        begin = PAPER if values.get("preset") else method_for(map(option_in, values["options"] or []))
        method, known = values.get("method") or begin, methods()
        pairs = values["options"] if method in known else None  # an unknown one is refused with the request
        values["options"] = parse_pairs(pairs, method, known[method].options) if pairs else {}
    return RunConfig.model_validate(values)


def pieces(text: str) -> list[str]:
    """What stands between commas."""
    return [piece.strip() for piece in text.split(",") if piece.strip()]


def window_sizes_of(written: str) -> list[int]:
    """How many layers windows have, from numbers with commas between them.

    Raises:
        ComeError: one is no number, or less than 2.
    """
    try:
        sizes = [int(piece) for piece in pieces(written)]
    except ValueError:
        sizes = [0]
    if any(size < 2 for size in sizes):
        raise ComeError(f"{written!r} says not how many layers windows have.", "Give numbers from 2 on, such as 2,7.")
    return sizes


def _recovery_options(names: list[str], pairs: list[str]) -> dict[str, Any]:
    """Options of ways from "key=value" or "way.key=value", by the types of the first way that has the key."""
    from come.recovery.registry import ways

    known = ways()
    chosen = [known[name] for name in names if name in known]  # unknown ones are refused with the request
    found: dict[str, Any] = {}
    for pair in pairs:
        owner, dot, _ = pair.partition("=")[0].partition(".")
        having = [way for way in chosen if (way.name == owner if dot else owner in way.option_names)] or chosen[:1]
        if not having:
            raise ComeError("--recover-option goes with --recover.", "Name the way of recovery as well.")
        own = pair[len(owner) + 1 :] if dot else pair
        for key, value in parse_pairs([own], having[0].name, having[0].options, "recovery").items():
            found[f"{owner}.{key}" if dot else key] = value
    return found


def check_device(name: str) -> None:
    """Refuse a device that this machine lacks, before there is a run that could only fail.

    Raises:
        ComeError: it has none of that name.
    """
    if name not in ("auto", "balanced"):
        from come.models.load import device_named

        device_named(name)


def named_run(name: str, runs: Path | None) -> Run:
    """The run of a directory, else of an id or enough of its beginning.

    Raises:
        ComeError: there is none, or several.
    """
    path = Path(name).expanduser()
    try:
        is_one = os.path.isdir(path) and is_run(path)
    except OSError as error:
        raise unreadable(path, error.strerror or "it may not be looked into", "Check its permissions.") from error
    return Run(path.resolve()) if is_one else find(name, runs)


def target_of(on: str) -> ClusterTarget | None:
    """The cluster of ``--on``, which answers; None for this machine.

    Raises:
        ComeError: it is no place, Ray is not installed here, or there is none at the address.
    """
    target = cluster_target(on)
    if target is not None:
        from come.cluster import check_reachable

        check_reachable(target)
    return target


def execute_at(target: ClusterTarget | None, run: Run, on_progress: OnProgress) -> None:
    """Execute a run here, or on a cluster, and wait for its end."""
    if target is None:
        execute(run, on_progress)
        return
    from come.cluster import execute_on

    execute_on(target, run, on_progress)
