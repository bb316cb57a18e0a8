"""Accuracy, what is left of it, speed, and what merging windows costs, as every command shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from come.cli.screen import show, show_table
from come.files import human_bytes
from come.numbers import ranges

if TYPE_CHECKING:
    from come.evaluate import Probe
    from come.pruning.layers_needed import LayersNeeded
    from come.pruning.windows import WindowCost

Metrics = Mapping[str, Any]
Left = tuple[float | None, float | None]
"""What is left of what the original knew above chance, with its error; None where the original is at chance."""


def show_speed(title: str, speed: Metrics) -> None:
    """One line: tokens a second, and memory."""
    show(
        f"{title}{speed['prefill_tokens_per_second']:,.0f} tokens/s read, "
        f"{speed['decode_tokens_per_second']:,.1f} tokens/s written, first token after "
        f"{1000 * speed['time_to_first_token']:,.0f} ms, weights {human_bytes(speed['weights_bytes'])}, "
        f"memory {human_bytes(speed['peak_memory_bytes'])} at the peak on {speed['device']}"
    )


def show_accuracy(
    ours: Mapping[str, Metrics], theirs: Mapping[str, Metrics], left: Mapping[str, Left], stable: Mapping[str, Left]
) -> None:
    """A line a task.

    Args:
        ours: by task, a model's metrics.
        theirs: the original's; empty where there is none.
        left: by task, and for their "mean", how much of the original's is left; without those at chance.
        stable: likewise, how far right and wrong answers are the original's; empty where that was not measured.
    """
    columns = ["task", "questions", "chance", "accuracy", "by length"]
    rows: list[list[Any]] = [[name, *_scores(metrics)] for name, metrics in ours.items()]
    if theirs:
        columns += ["original", "by length", "left above chance"]
        for row in rows:
            known = theirs.get(row[0])
            row += [*(_scores(known)[2:] if known else ("", "")), _left(left.get(row[0]))]
        rows.append(["mean of what is left", *[None] * 6, _left(left.get("mean"))])
    if stable:
        columns.append("stability")
        for row, name in zip(rows, [*ours, "mean"], strict=True):
            row.append(_share(stable.get(name)))
    show_table(columns, rows)


def show_window_costs(costs: Sequence[WindowCost]) -> None:
    """A line a window, the cheapest merge first."""
    columns = ("layers", "merged", "parallel error", "unit error", "all but one removed", "and that one refitted")
    rows = [
        (f"{cost.first} to {cost.last}", *map(_nats, _parts(cost)))
        for cost in sorted(costs, key=lambda each: each.merged)
    ]
    show_table(columns, rows)
    show("KL to the original in nats a token, on tokens apart of this text and of mix; merged as come-joint merges.")


def show_layers_needed(needed: Sequence[LayersNeeded]) -> None:
    """A line a sequence, and their means."""
    from come.pruning.removal import neighbours  # which takes torch along

    columns = ("sequence", "loss", "layers needed", "by search", "its loss", "kept", "evenly spaced", "their loss")
    rows: list[tuple[Any, ...]] = []
    for number, each in enumerate(needed):
        found = f"{len(each.kept)}{'' if each.complete else ' or fewer'}"
        kept = ", ".join(f"{part[0]}-{part[-1]}" if part[1:] else f"{part[0]}" for part in neighbours(each.kept))
        spaced = (each.uniform, _nats(each.uniform_loss))
        rows.append((number, _nats(each.loss), each.layers, found, _nats(each.kept_loss), kept, *spaced))
    layers, kept_layers, uniform = (
        f"{fmean(counts):.1f}"
        for counts in zip(*((each.layers, len(each.kept), each.uniform) for each in needed), strict=True)
    )
    rows.append(("mean", "", layers, kept_layers, "", "", uniform, ""))
    show_table(columns, rows)
    show("Losses in nats a token. A sequence needs no more layers than leave its loss within the tolerance of all.")


def show_probes(title: str, probes: Mapping[str, Probe], groups: Sequence[Sequence[int]]) -> None:
    """What a mix of all layers' states makes of each task, and below it the weight of each state in the mix.

    Args:
        title: whose they are.
        probes: by task.
        groups: the original's layers that each layer of a pruned model stands for; of others, nothing.
    """
    columns = ("task", "held out", "chance", "mix of all layers", "last layer", "mix gains", "mean depth")
    rows = [
        (
            name,
            f"{each.held_out} of {each.train + each.held_out}",
            _percent(each.chance),
            _share((each.accuracy, each.stderr)),
            _share((each.last_accuracy, each.last_stderr)),
            _share((each.gain, each.gain_stderr)),
            _percent(each.depth),
        )
        for name, each in probes.items()
    ]
    show(f"{title}which depths a task reads from")
    show_table(columns, rows)
    show("")
    layers = len(next(iter(probes.values())).weights)
    pruned = len(groups) == layers - 1
    spans = groups if pruned else [[layer] for layer in range(layers - 1)]
    states = ["embeddings", *(f"after {ranges(group)}" for group in spans)]
    weights = [[f"{each.weights[state]:.3f}" for each in probes.values()] for state in range(layers)]
    show_table(("state", *probes), [(state, *row) for state, row in zip(states, weights, strict=True)])
    show("Layers are counted as in the original.\n" if pruned else "")


def _parts(cost: WindowCost) -> tuple[float, ...]:
    return cost.merged, cost.parallel, cost.unit_error, cost.removal, cost.removal_refitted


def _nats(value: float) -> str:
    return f"{value:.4f}"


def _scores(metrics: Metrics) -> list[Any]:
    """Questions, chance, and both accuracies in percent with their errors; else what the task measures instead."""
    scores = [
        f"{_percent(metrics[metric])} ± {_percent(metrics.get(f'{metric}_stderr', 0.0))}" if metric in metrics else ""
        for metric in ("acc", "acc_norm")
    ]
    if not any(scores):
        metric, value = next(iter(metrics.items()))
        scores[0] = f"{metric} {value:.4g}"
    return [int(metrics["items"]), _percent(metrics["chance"]), *scores]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _left(share: Left | None) -> str:
    return _share(share) or "original is at chance"


def _share(share: Left | None) -> str:
    value, stderr = share or (None, None)
    return "" if value is None else f"{_percent(value)} ± {_percent(stderr or 0.0)}"
