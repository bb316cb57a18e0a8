"""`come run` and `come analyze`: a run in the foreground, the same directory that the page sees."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from come.cli.fitting import Context, Limits, MaxBytes, MaxMemory, Speedup, with_layers_for
from come.cli.request import (
    ANALYSIS,
    CALIBRATION,
    DEVICE,
    EVALUATION,
    RECOVERY,
    On,
    Runs,
    asks_for,
    check_device,
    execute_at,
    target_of,
    window_sizes_of,
)
from come.cli.scores import show_accuracy, show_layers_needed, show_probes, show_speed, show_window_costs
from come.cli.screen import AsJson, progress, show, show_json, show_table
from come.cli.track import Track, check_track, tell_afterwards
from come.files import human_bytes
from come.request import RunConfig
from come.runs import Run, create, execute, launch, layers_needed, window_costs
from come.runs.cluster_target import LOCAL

if TYPE_CHECKING:
    from come.estimation.cost import Estimate


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("run")(run)
    app.command("analyze")(analyze)


@asks_for(
    "model", "method", "preset", "target_layers", "sparsity", "options", "name", "save_dtype",
    *CALIBRATION, "seed", *DEVICE, *RECOVERY, *EVALUATION,
)  # fmt: skip
def run(
    config: RunConfig,
    max_memory: MaxMemory = None,
    context: Context = None,
    max_bytes: MaxBytes = None,
    speedup: Speedup = None,
    plan_only: Annotated[bool, typer.Option("--plan-only", help="Keep the plan, not the model's weights.")] = False,
    runs: Runs = None,
    on: On = LOCAL,
    background: Annotated[bool, typer.Option("--background", help="Return at once; `come runs` follows it.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Start nothing: tell what time, memory and disk it would take.")
    ] = False,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Prune a model and measure what it cost.

    A run is a directory (config, plan, results, pruned model), which the page shows too. Ctrl-C cancels it.

    [bold]Examples[/bold]

    The bundled model, from 30 layers to 27:  come run --target-layers 27

    A fifth of the parameters, as in the paper:  come run --method come --sparsity 0.2

    With the text and the options of the published program:  come run --preset published --sparsity 0.2

    Your model and your text:  come run --model ./my-llama --text notes.txt --sparsity 0.1

    The most layers that meet all of these:  come run --dtype bfloat16 --max-memory 250MiB --speedup 1.2

    Windows chosen by hand:  come run --option 'windows=[[4,5],[9,11]]'

    What a larger one would take:  come run --model ./my-llama --sparsity 0.3 --dry-run

    On a cluster (docs/cluster.md):  come run --target-layers 24 --on "ray://head:10001?gpus=1"
    """
    check_track(track, background)
    target = target_of(on)
    config = config.model_copy(update={"keep_model": not plan_only})
    if limits := Limits(max_memory, context, max_bytes, speedup):
        config = with_layers_for(config, target, limits)
    if dry_run:
        from come.runs.foreseen import estimate

        show_estimate(config, estimate(config, runs=runs, remeasure=True), as_json)
        return
    if target is None:
        check_device(config.device)
    made = create(config, runs)
    if background:
        launch(made, where=target.text if target else "")
    else:
        with progress() as on_progress:
            execute_at(target, made, on_progress)
    if as_json:
        show_json(summary(made))
    elif background:
        show(made.id)
    else:
        show_results(made)
    tell_afterwards(track, [made], as_json)


@asks_for("model", *CALIBRATION, "seed", *ANALYSIS, *DEVICE)
def analyze(
    config: RunConfig,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A directory for this analysis alone (else in the folder of runs)."),
    ] = None,
    windows: Annotated[
        str, typer.Option("--windows", help="Also what merging windows of so many layers costs: 2, or 2,7.")
    ] = "",
    window_seconds: Annotated[
        float | None,
        typer.Option("--window-seconds", min=0, help="How long for that, the likeliest windows first (else all)."),
    ] = None,
    oracle: Annotated[
        int | None,
        typer.Option("--oracle", min=1, help="Also how few layers each of so many sequences would have needed."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option("--tolerance", min=0, help="By how many nats a token its loss may be above, for --oracle.")
    ] = 0.0,
    passes: Annotated[
        float, typer.Option("--passes", min=1, help="What --oracle may cost a sequence, in passes through all layers.")
    ] = layers_needed.PASSES,
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Measure a model: block influence, channel sensitivity, similarity of layers.

    The arrays lie in analysis.safetensors of the run's directory, which the page shows as well.

    [bold]Examples[/bold]

    The bundled model, with the page's charts in mind:  come analyze

    Your model, into a directory of its own:  come analyze --model ./my-llama --text notes.txt --out analysis

    What merging each pair costs, for a minute:  come analyze --windows 2 --window-seconds 60

    How few layers each of eight sequences needs:  come analyze --oracle 8
    """
    from come.runs.reported import texts_read

    check_device(config.device)
    sizes = window_sizes_of(windows)
    made = create(config.model_copy(update={"kind": "analyze"}), runs, out)
    with progress() as on_progress:
        execute(made, on_progress)
        if sizes:
            window_costs.measure(made, sizes, seconds=window_seconds, on_progress=on_progress)
        needed = layers_needed.measure(made, oracle, tolerance, passes, on_progress=on_progress) if oracle else ()
    costs = window_costs.read(made)
    measurement = made.measurement()
    assert measurement is not None
    influence = measurement.block_influence.tolist()
    if as_json:
        arrays = {"block_influence": influence, "skip_influence": measurement.skip_influence.tolist()}
        measured: dict[str, Any] = {"window_costs": costs} if sizes else {}
        if oracle:
            measured["oracle"] = [{"layers": each.layers, **asdict(each)} for each in needed]
        show_json({**summary(made), **arrays, "stability": measurement.window_stability(), **measured})
        return
    show_table(("layer", "block influence"), [(layer, f"{value:.4f}") for layer, value in enumerate(influence)])
    if costs:
        show("")
        show_window_costs(costs)
    if needed:
        show("")
        show_layers_needed(needed)
    for sentence in texts_read(made.results()):
        show(f"\n{sentence}")
    first, last = measurement.window_stability()["best"]
    show(f"\nCoMe would merge layers {first} to {last} first.\n{made.path / 'analysis.safetensors'}")


def show_estimate(config: RunConfig, expected: Estimate, as_json: bool = False) -> None:
    """What a run would take, stage by stage, and what that rests on."""
    from come.pruning.registry import method

    if as_json:
        asked = {"asked": config.asked.model_dump()} if config.asked is not None else {}
        show_json({**expected.to_dict(), **asked})
        return
    show(f"{method(config.method).title} on {config.model}, down to {expected.layers} layers\n")
    if config.asked is not None:
        show(f"{config.asked.sentence}\n")
    stages = [*expected.seconds_by_stage.items(), ("all", expected.seconds)]
    show_table(("stage", "seconds"), [(stage, round(seconds, 1)) for stage, seconds in stages])
    device = expected.device
    rows = [("memory", human_bytes(expected.memory_bytes), f"{human_bytes(device.memory * device.count)} free")]
    if device.kind == "cuda":
        rows.append(("main memory", human_bytes(expected.host_bytes), f"{human_bytes(device.main_memory)} free"))
    show("")
    show_table(("room", "at its peak", device.name), [*rows, ("disk", human_bytes(expected.disk_bytes), "")])
    show("")
    for warning in expected.warnings:
        show(f"Warning: {warning}")
    for assumption in expected.assumptions:
        show(f"- {assumption}")


def summary(run: Run) -> dict[str, Any]:
    """What `--json` tells of a run."""
    return {
        "id": run.id,
        "path": str(run.path),
        **run.state().model_dump(),
        "config": run.config.model_dump(),
        "results": run.results(),
    }


def show_results(run: Run) -> None:
    """The two models side by side, and where the rest is."""
    from come.runs.reported import DIVERGED, asked_for, not_probed, outcome, texts_read  # which takes pandas along

    results = run.results()
    rows = [
        (
            name,
            values["layers"],
            values["parameters"],
            human_bytes(values["bytes"]),
            values.get("perplexity"),
        )
        for name in ("original", "pruned")
        if (values := results.get(name))
    ]
    if rows:
        show_table(("model", "layers", "parameters", "size", "perplexity"), rows)
    plan = run.plan()
    _show_judged(results.get("original") or {}, results.get("pruned") or {}, plan.groups() if plan else ())
    for sentence in [*asked_for(run.config.asked, results), *texts_read(results), *not_probed(results)]:
        show(f"\n{sentence}")
    for sentence in outcome(plan):
        if DIVERGED in sentence:
            show(f"Recovery, {sentence}")
    show(f"\n{run.path}")


def _show_judged(original: dict[str, Any], pruned: dict[str, Any], groups: Sequence[Sequence[int]]) -> None:
    """Speed and probe of both models, and accuracy with what is left of it, as far as they were measured.

    Args:
        original, pruned: their metrics.
        groups: the original's layers that each layer of the pruned model stands for.
    """
    for name, metrics in (("original", original), ("pruned", pruned)):
        if "speed" in metrics:
            show_speed(f"{name}: ", metrics["speed"])
        if metrics.get("probe"):
            from come.evaluate import Probe  # which takes torch along

            probes = {task: Probe.from_results(each) for task, each in metrics["probe"].items()}
            show_probes(f"{name}: ", probes, groups if name == "pruned" else ())
    if "accuracy" in pruned:
        left, stable = (
            {name: (share.get("value"), share.get("stderr")) for name, share in (pruned.get(kind) or {}).items()}
            for kind in ("retention", "stability")
        )
        show_accuracy(pruned["accuracy"], original.get("accuracy") or {}, left, stable)
