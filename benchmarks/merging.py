"""What merges and removals cost without training: every method on the same tokens, in and out of their domain.

``python -m benchmarks.merging found.jsonl --calibrate mix --judge wiki.txt --judge python-docs`` adds to the file what
it lacks; ``--only-table`` prints what lies there. A method is judged by its divergence from the original and by its
perplexity on tokens of every text that calibration did not see; errors are over sequences, differences are paired.
``--questions bundled --questions piqa.jsonl --limit 100`` has it answer questions too.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import come
from benchmarks.judging import (
    ORIGINAL,
    Row,
    answers,
    cell,
    divergence,
    judged_on,
    keep_row,
    references,
    retention_cell,
    rows,
)
from benchmarks.timing import MODEL, machine, markdown
from come.models import Bundle
from come.plan.plan import Plan
from come.pruning.scoring import Scorer
from come.pruning.sweep import swept
from come.transforms.rebuild import replay

REFIT = {"refit": True}
QUICK = {"search": "coarse-to-fine"}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "shortgpt": ("shortgpt", {}),
    "shortgpt, refit": ("shortgpt", REFIT),
    "shortgpt, refit, sweep": ("shortgpt", REFIT),
    "deeper": ("deeper", {}),
    "deeper, refit": ("deeper", REFIT),
    "deeper, refit, sweep": ("deeper", REFIT),
    "taylor": ("taylor", {}),
    "taylor, refit": ("taylor", REFIT),
    "replaceme, lstsq": ("replaceme", {"objective": "lstsq"}),
    "replaceme, cosine": ("replaceme", {"objective": "cosine"}),
    "replaceme, cosine, sweep": ("replaceme", {"objective": "cosine"}),
    "prune-comp": ("prune-comp", {}),
    "streamline": ("streamline", {}),
    "fisher": ("fisher", {}),
    "come": ("come", {}),
    "come, refit": ("come", REFIT),
    "come, by kl": ("come", {"select": "kl", "refit": True}),
    "come, refit, sweep": ("come", REFIT),
    "come-joint": ("come-joint", {}),
    "come-joint, first attention": ("come-joint", {"attention": "first"}),
    "come-joint, no sweep": ("come-joint", {"sweep": False}),
    "come-joint, no lookahead": ("come-joint", {"lookahead": 0.0}),
    "come-joint, step by step": ("come-joint", {"span": 2}),
    "sleb": ("sleb", {}),
    "sleb, refit": ("sleb", REFIT),
    "come-p": ("come-p", QUICK),
    "come-p, refit": ("come-p", QUICK | REFIT),
    "auto": ("auto", {}),
}
SWEEP = "sweep"
SCORING = 2  # sequences, the last of the calibration's


def plans(bundle: Bundle, tokens: torch.Tensor, case: str, targets: list[int]) -> Iterator[tuple[int, Plan, float]]:
    """The plan of a case for each target, with the seconds it took; a stepwise one is made once for all."""
    name, options = CASES[case]
    sweeps = case.endswith(f", {SWEEP}") and "no sweep" not in case
    method = come.methods()[name]
    scorer = Scorer(bundle, tokens[-SCORING:]) if sweeps else None

    def finished(plan: Plan) -> Plan:
        return swept(bundle, replay(bundle, plan), plan, tokens, scorer)[2] if scorer is not None else plan

    began = time.perf_counter()
    if not method.goes_on(options):
        for target in targets:
            began = time.perf_counter()
            plan = finished(come.compress(bundle, tokens, name, target_layers=target, **options).plan)
            yield target, plan, time.perf_counter() - began
        return
    reached: dict[int, tuple[Plan, float]] = {}

    def keep(plan: Plan) -> None:
        reached[plan.layers] = plan, time.perf_counter() - began

    come.compress(bundle, tokens, name, target_layers=min(targets), on_step=keep, **options)
    for target in targets:
        plan, seconds = reached[target]
        began = time.perf_counter()
        yield target, finished(plan), seconds + time.perf_counter() - began


def measure(
    keep: Path,
    model: str,
    dtype: str,
    calibrate: str,
    texts: list[str],
    targets: list[int],
    cases: list[str],
    seed: int,
    n_tokens: int,
    judge_tokens: int,
    questions: list[str],
    limit: int,
) -> None:
    """Add to the file what it lacks."""
    bundle = come.load(model, dtype=dtype)
    tokens = come.tokens(bundle, calibrate, n_tokens, 512, "calibration", seed)
    known = references(bundle, texts, judge_tokens)
    here = {"seed": seed, "tokens": n_tokens, "calibrate": Path(calibrate).name, "model": Path(model).name}
    done = {(row["case"], row["layers"], *(row[name] for name in here)) for row in rows(keep)}

    def write(case: str, layers: int, pruned: Bundle, seconds: float) -> None:
        row: Row = {"case": case, "layers": layers, **here, "seconds": seconds, "dtype": dtype}
        row |= {"texts": judged_on(pruned, known), "questions": answers(pruned, questions, limit)}
        keep_row(keep, row)

    if (ORIGINAL, len(bundle.layers), *here.values()) not in done:
        write(ORIGINAL, len(bundle.layers), bundle, 0.0)
    for case in cases:
        todo = [target for target in targets if (case, target, *here.values()) not in done]
        for target, plan, seconds in plans(bundle, tokens, case, todo) if todo else ():
            write(case, target, replay(bundle, plan), seconds)
            gc.collect()


def table(found: list[dict[str, Any]]) -> str:
    """A row a case and size, best first by the mean divergence over texts; means over seeds."""
    texts = list(found[0]["texts"])
    originals = {row["model"]: row for row in found if row["case"] == ORIGINAL}
    groups: dict[tuple[str, str, int, int, str], list[dict[str, Any]]] = {}
    for row in found:
        key = row["model"], row["calibrate"], row["tokens"], row["layers"], row["case"]
        groups.setdefault(key, []).append(row)

    lines = []
    for (model, calibrate, tokens, layers, case), same in groups.items():
        total = sum(float(divergence(same, text).mean()) for text in texts)
        where = model, calibrate, tokens
        cells = (*(cell(same, text) for text in texts), retention_cell(originals.get(model), same))
        lines.append(((*where, -layers, total), (*where, layers, case, len(same), *cells)))
    columns = (
        "model",
        "calibration",
        "tokens",
        "layers",
        "method",
        "seeds",
        *(f"{text}: perplexity; KL" for text in texts),
        "retention, %",
    )
    return markdown(columns, [cells for _, cells in sorted(lines, key=lambda line: line[0])])


def main(
    keep: Path,
    model: str = MODEL,
    dtype: str = "bfloat16",
    calibrate: str = "mix",
    judge: Annotated[list[str] | None, typer.Option()] = None,
    layers: str = "27,24,21",
    case: Annotated[list[str] | None, typer.Option()] = None,
    seed: int = 0,
    tokens: int = 8192,
    judge_tokens: int = 4096,
    questions: Annotated[list[str] | None, typer.Option()] = None,
    limit: int = 100,
    only_table: bool = False,
) -> None:
    """Measure, and print the table of the file."""
    if not only_table:
        targets, texts = [int(each) for each in layers.split(",")], judge or ["python-docs"]
        asked = case or list(CASES)
        measure(
            keep, model, dtype, calibrate, texts, targets, asked, seed, tokens, judge_tokens, questions or [], limit
        )
    print(machine(), "\n")
    print(table(rows(keep)))


if __name__ == "__main__":
    typer.run(main)
