"""What measurements of many changed models have in common: judging them beside the original, keeping and telling it.

A row is a line of JSON; its ``texts`` holds, for every text that was judged on, the perplexity and the divergence from
the original on each sequence, so that two rows can be compared sequence by sequence. Its ``questions`` hold what was
answered right, question by question.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import come
from come.evaluate.accuracy import Accuracy, measure_accuracy
from come.evaluate.divergence import compare
from come.evaluate.retention import mean_retention, retained_by_task
from come.measurement.divergence import Reference, reference
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import run_through
from come.models import Bundle

Row = dict[str, Any]
ORIGINAL = "original"


def references(bundle: Bundle, texts: Sequence[str], n_tokens: int = 4096, seq_len: int = 512) -> dict[str, Reference]:
    """What an original predicts on tokens of every text that calibration does not see, by the text's short name."""
    return {
        Path(text).name: reference(bundle, come.tokens(bundle, text, n_tokens, seq_len, "evaluation")) for text in texts
    }


def judged_on(bundle: Bundle, known: dict[str, Reference]) -> dict[str, Any]:
    """What a model comes to on each text."""
    return {text: judged(bundle, each) for text, each in known.items()}


@torch.inference_mode()
def judged(bundle: Bundle, known: Reference) -> dict[str, Any]:
    """Perplexity of a model, and its divergence from the original on each sequence."""
    runner, todo = LayerRunner(bundle), known.batches()
    losses, divergences = [], []
    for batch, _ in todo:
        normed = run_through(runner, batch, len(todo), None, "")
        loss, divergence = compare(runner, normed, batch.tokens, known.log_chances(batch.index))
        losses.append(loss)
        divergences.append(divergence)
    return {"perplexity": math.exp(float(torch.cat(losses).mean())), "kl": torch.cat(divergences).tolist()}


def answers(bundle: Bundle, tasks: Sequence[str], limit: int) -> dict[str, Any]:
    """What a model scores on the first questions of each task, with its hits."""
    scored = measure_accuracy(bundle, list(tasks), limit) if tasks else {}
    return {Path(name).stem: dataclasses.asdict(each) for name, each in scored.items()}


def retention_cell(original: Row | None, same: Sequence[Row]) -> str:
    """The share of the original's accuracy above chance that is left, mean of the tasks, a mean over rows of a case."""
    if original is None or not all(row.get("questions") for row in (original, *same)):
        return ""
    before = {name: Accuracy(**each) for name, each in original["questions"].items()}
    shares = []
    for row in same:
        after = {name: Accuracy(**each) for name, each in row["questions"].items()}
        shares.append(mean_retention(list(retained_by_task(before, after).values())))
    values = [100 * value for value, _ in shares if value is not None]
    errors = [100 * error for _, error in shares if error is not None]
    return f"{sum(values) / len(values):.0f} ± {sum(errors) / len(errors):.0f}" if values else ""


def keep_row(keep: Path, row: Row) -> None:
    """Add a row to a file, and tell its perplexities."""
    with keep.open("a") as file:
        file.write(json.dumps(row) + "\n")
    told = {text: round(found["perplexity"], 2) for text, found in row["texts"].items()}
    print(*(value for name, value in row.items() if name in ("case", "layers", "recovery")), told, flush=True)


def rows(keep: Path) -> list[Row]:
    """What was measured so far."""
    return [json.loads(line) for line in keep.read_text().splitlines()] if keep.exists() else []


def divergence(same: Sequence[Row], text: str) -> torch.Tensor:
    """The divergence on each sequence of a text, a mean over rows of the same case, (sequences,)."""
    return torch.tensor([row["texts"][text]["kl"] for row in same]).mean(0)


def with_error(by_sequence: torch.Tensor) -> str:
    """The mean with its standard error over sequences."""
    return f"{by_sequence.mean():.3f} ± {by_sequence.std() / len(by_sequence) ** 0.5:.3f}"


def cell(same: Sequence[Row], text: str) -> str:
    """Perplexity, and divergence with its error, of rows of the same case."""
    perplexity = sum(row["texts"][text]["perplexity"] for row in same) / len(same)
    return f"{perplexity:.1f}; {with_error(divergence(same, text))}"
