"""CoMe-P's candidates: only the layers from the window on and the head, against a copy of the whole model each."""

from __future__ import annotations

import copy
import statistics

import torch

import come
from benchmarks.timing import bundled, forward, in_turn, markdown, seconds
from come.measurement.calibrate import batches, default_batch_size
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import sequence_losses
from come.models import Bundle
from come.pruning.methods.come_p import MOST_CANDIDATES

ROUNDS = 3
GRANULARITY = 20


def table(rounds: int = ROUNDS) -> str:
    """One row a dtype: the search of one step; then how near the quick search comes."""
    columns = ("dtype", "window starts at", "candidates", "candidate / (suffix + head)", "whole copy / candidate")
    agreeing, steps, looks = agreement()
    note = (
        f"coarse-to-fine, with at most {MOST_CANDIDATES} candidates a step, came within one grid step of the grid's "
        f"choice on {agreeing} of {steps} steps (from 30 to {30 - steps} layers), with {looks} candidates in all."
    )
    return markdown(columns, [_row(dtype, rounds) for dtype in ("float32", "bfloat16")]) + "\n\n" + note


def _row(dtype: str, rounds: int) -> tuple[str | int | float, ...]:
    bundle, tokens = bundled(dtype, n_tokens=2048)
    size = default_batch_size(tokens.shape[1])
    scored: list[str] = []
    searching = _search_seconds(bundle, tokens, scored)
    first = come.compress(bundle, tokens, target_layers=29).history[0].window[0]
    works = [
        lambda: suffix_and_head(bundle, tokens, first),
        lambda: forward(_copied(bundle), tokens, size, head=True),
    ]
    suffix, whole = (statistics.median(times) for times in in_turn(works, rounds))
    each = searching / len(scored)
    return dtype, first, len(scored), each / suffix, whole / each


def _copied(bundle: Bundle) -> Bundle:
    """A copy of the whole model, as each candidate of the published reference is."""
    return Bundle(copy.deepcopy(bundle.model), bundle.tokenizer, bundle.family, bundle.source)


def _search_seconds(bundle: Bundle, tokens: torch.Tensor, scored: list[str]) -> float:
    """One step with the search less one without it."""

    def note(event: come.Event) -> None:
        if event.stage == "search":
            scored.append(event.message)

    with_search = seconds(
        lambda: come.compress(bundle, tokens, "come-p", target_layers=29, granularity=GRANULARITY, on_progress=note)
    )
    return with_search - seconds(lambda: come.compress(bundle, tokens, target_layers=29))


@torch.inference_mode()
def suffix_and_head(bundle: Bundle, tokens: torch.Tensor, first: int) -> None:
    """What a candidate cannot do without: the layers after the pair, the merged one, and the head with its loss."""
    runner = LayerRunner(bundle)
    for batch in batches(tokens):
        hidden_states = runner.enter(batch.tokens)
        for layer in range(first + 1, len(runner)):
            hidden_states = runner.run(layer, hidden_states)
        sequence_losses(runner, runner.norm(hidden_states), batch.tokens)


def agreement(steps: int = 10, n_tokens: int = 512) -> tuple[int, int, int]:
    """On how many of the grid's steps the quick search comes within one grid step, of how many, with how many looks."""
    from come.pruning.merging import Choice
    from come.pruning.method import Task
    from come.pruning.methods.come_p import ComePOptions, Scorer, coarse_to_fine, grid
    from come.pruning.options import SelectionOptions
    from come.pruning.progressive import progressive
    from come.transforms.rebuild import base_of

    bundle, tokens = bundled("float32", n_tokens=n_tokens)
    plan = come.Plan(base=base_of(bundle), dtype="float32", method="come-p")
    task = Task(bundle, bundle, plan, tokens, 30 - steps)
    found: list[tuple[int, int]] = []
    looks = 0

    def decide(choice: Choice) -> object:
        nonlocal looks
        score = Scorer(task, ComePOptions(granularity=GRANULARITY), choice)
        quick = coarse_to_fine(GRANULARITY, score, score.plateaus())
        looks += len(score.losses)
        best = grid(GRANULARITY, score)
        found.append((quick, best))
        return score.candidate(best)

    progressive(task, SelectionOptions(), decide)  # type: ignore[arg-type]
    return sum(abs(quick - best) <= 1 for quick, best in found), len(found), looks
