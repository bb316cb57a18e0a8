"""`come sweep`: several methods and targets in one comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from come.cli.fitting import Context, Limits, MaxBytes, MaxMemory, Speedup, with_layers_for
from come.cli.options import parse_pairs
from come.cli.prune import summary
from come.cli.request import (
    CALIBRATION,
    DEVICE,
    EVALUATION,
    RECOVERY,
    On,
    Runs,
    asks_for,
    check_device,
    pieces,
    target_of,
)
from come.cli.screen import AsJson, progress, show, show_json, show_table
from come.cli.track import Track, check_track, tell_afterwards
from come.errors import ComeError
from come.events import OnProgress
from come.request import RunConfig, checked
from come.runs import ClusterTarget, Run, RunFault, Sweep, execute_all, launch, prepare
from come.runs.cluster_target import LOCAL
from come.runs.execute import FAULT

if TYPE_CHECKING:
    from come.estimation.sweep import SweepEstimate


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("sweep")(sweep)


@asks_for("model", *CALIBRATION, *DEVICE, *RECOVERY, *EVALUATION)
def sweep(
    config: RunConfig,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="A name of `come methods`; several times, or with commas; all: every one."),
    ] = None,
    target_layers: Annotated[
        list[str] | None, typer.Option("--target-layers", "-n", help="Layers to be left: several, such as 27,24,21.")
    ] = None,
    sparsity: Annotated[
        list[str] | None,
        typer.Option("--sparsity", "-s", help="Or: shares of parameters to remove, such as 0.1,0.2."),
    ] = None,
    max_memory: MaxMemory = None,
    context: Context = None,
    max_bytes: MaxBytes = None,
    speedup: Speedup = None,
    seed: Annotated[
        list[str] | None,
        typer.Option("--seed", help="Several draw other calibration sequences each; 0 alone if left out."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-o", help="method.key=value, or key=value for each method that has it."),
    ] = None,
    keep_models: Annotated[bool, typer.Option("--keep-models", help="Keep the weights, not the plans only.")] = False,
    name: Annotated[str, typer.Option("--name", help="A name for the sweep; the same name goes on with it.")] = "",
    runs: Runs = None,
    on: On = LOCAL,
    background: Annotated[bool, typer.Option("--background", help="Return at once; `come runs` follows it.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Start nothing: tell what it would take.")] = False,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Compare methods: each of them, at each target, on the same model and text.

    Every cell is a run, which the page's compare page draws. A cell that fails does not stop the others, but is told
    at the end, and is no success; the same command again goes on where it was broken off.

    [bold]Examples[/bold]

    CoMe against removal:  come sweep --method come,shortgpt,sleb --target-layers 27,24,21

    Everything, with accuracy:  come sweep --method all --target-layers 27,24 --evaluate ppl,acc --limit 100

    What that would take:  come sweep --method all --target-layers 27,24 --dry-run

    At the size that fits:  come sweep --method come-joint,shortgpt,sleb --max-memory 250MiB --dtype bfloat16

    On a cluster, a worker for each method and seed:  come sweep --method come,sleb --target-layers 27,24 --on ray:auto
    """
    check_track(track, background)
    target, names = target_of(on), _names(method)
    options, targets = _options(option or [], names), _numbers(target_layers, int, "--target-layers")
    config = config.model_copy(update={"sweep": name, "keep_model": keep_models})
    if limits := Limits(max_memory, context, max_bytes, speedup):
        if targets or sparsity:
            raise ComeError("A target of memory, bytes or speed stands alone.", "Leave out the layers and sparsities.")
        config = _with_layers_for(config, target, limits, names, options)
        targets = [config.target_layers]
    request = Sweep(
        base=config,
        methods=names,
        targets=targets,
        sparsities=_numbers(sparsity, float, "--sparsity"),
        seeds=_numbers(seed, int, "--seed") or [0],
        options=options,
    )
    if dry_run:
        from come.runs.foreseen import estimate_sweep

        cells = request.cells()
        for cell in cells:
            checked(cell)  # what the sweep itself would refuse
        _show_estimate(estimate_sweep(cells), as_json)
        return
    if target is None:
        check_device(config.device)
    made = prepare(request.cells(), runs)
    if background:
        todo = [run for run in made if run.state().status != "done"]
        if todo:
            launch(*todo, where=target.text if target else "")
        show_json({"sweep": made[0].config.sweep, "runs": [run.id for run in made]}) if as_json else show(
            made[0].config.sweep
        )
        return
    with progress() as on_progress:
        execute_all_at(target, made, on_progress)
    if as_json:
        show_json({"sweep": made[0].config.sweep, "runs": [summary(run) for run in made]})
    else:
        _show_table(made)
    tell_afterwards(track, made, as_json)
    _raise_failures(made)


def _with_layers_for(
    config: RunConfig,
    target: ClusterTarget | None,
    limits: Limits,
    names: Sequence[str],
    options: dict[str, dict[str, Any]],
) -> RunConfig:
    """The base of the cells with the most layers that meet the limits, which every method has to reach."""
    if not names:
        raise ComeError("A sweep needs a method.", "Name one or several of `come methods`.")
    for each in names:
        asked = config.model_copy(update={"method": each, "options": options[each]})
        reached = with_layers_for(asked, target, limits)
    return config.model_copy(update={"target_layers": reached.target_layers, "asked": reached.asked})


def _raise_failures(made: Sequence[Run]) -> None:
    """End as the worst cell did, so that a script hears of it: what is done has been shown.

    Raises:
        RunFault: a cell failed by a fault of ours.
        ComeError: one failed by something the user can put right.
        KeyboardInterrupt: none failed, and all were cancelled, one by one.
    """
    states = [run.state() for run in made]
    failed = [state for state in states if state.status == "failed"]
    faults = [state for state in failed if state.error.startswith(FAULT)]
    what = f"{len(failed)} of {len(made)} cells failed."
    if faults:
        raise RunFault(f"{what} {faults[0].error} {faults[0].hint}")
    if failed:
        raise ComeError(f"{what} {failed[0].error}", failed[0].hint)
    if all(state.status == "cancelled" for state in states):
        raise KeyboardInterrupt


def execute_all_at(target: ClusterTarget | None, made: Sequence[Run], on_progress: OnProgress) -> None:
    """Execute the cells of a sweep here, one after the other, or on a cluster, and wait for their ends."""
    if target is None:
        execute_all(made, on_progress)
        return
    from come.cluster import execute_all_on

    execute_all_on(target, made, on_progress)


def _names(given: Sequence[str] | None) -> list[str]:
    from come.pruning.registry import methods

    names = _pieces(given)
    return list(methods()) if names == ["all"] else names


def _pieces(given: Sequence[str] | None) -> list[str]:
    return [piece for each in given or [] for piece in pieces(each)]


def _numbers(given: Sequence[str] | None, kind: type, option: str) -> list[Any]:
    try:
        return [kind(piece) for piece in _pieces(given)]
    except ValueError:
        what = "whole numbers" if kind is int else "numbers"
        raise ComeError(f"{option} takes {what}, not {', '.join(given or [])!r}.", "Put commas between them.") from None


def _options(pairs: Sequence[str], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """By method, its options: of "method.key=value", and of "key=value" where the method has that key.

    Raises:
        ComeError: a method, or all of them, lack the option, or cannot take the value.
    """
    from come.pruning.registry import method

    found: dict[str, dict[str, Any]] = {name: {} for name in names}
    for pair in pairs:
        key = pair.partition("=")[0].strip()
        owner, dot, own = key.partition(".")
        if dot:
            chosen = method(owner)
            found.setdefault(owner, {}).update(parse_pairs([pair[len(owner) + 1 :]], owner, chosen.options))
            continue
        having = [name for name in names if own.replace("-", "_") in method(name).defaults()] or list(names[:1])
        for name in having:
            found[name].update(parse_pairs([pair], name, method(name).options))
    return found


def _show_table(made: Sequence[Run]) -> None:
    """One line a cell; where the rest is."""
    from come.runs.reported import texts_read

    rows = []
    for run in made:
        state, pruned = run.state(), run.results().get("pruned") or {}
        mean = (pruned.get("retention") or {}).get("mean") or {}
        rows.append(
            (
                run.config.method,
                run.config.target_layers or pruned.get("layers"),
                run.config.seed,
                state.status if state.status != "failed" else f"failed: {state.error}",
                pruned.get("perplexity"),
                pruned.get("kl"),
                mean.get("value"),
            )
        )
    show_table(("method", "layers", "seed", "status", "perplexity", "KL", "retention"), rows)
    for sentence in dict.fromkeys(sentence for run in made for sentence in texts_read(run.results())):
        show(f"\n{sentence}")
    show(f"\n{made[0].config.sweep}: the compare page of `come app` draws it; `come runs show ID` tells one run.")


def _show_estimate(expected: SweepEstimate, as_json: bool) -> None:
    if as_json:
        show_json(expected.to_dict())
        return
    show_table(("cells", "seconds"), [(what, round(seconds, 1)) for what, seconds in expected.seconds_by_part.items()])
    show("")
    for line in (*expected.warnings, *expected.assumptions):
        show(f"- {line}")
