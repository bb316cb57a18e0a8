"""Recovery at equal time: what each way gives back in so many seconds, in the text's domain and out of it.

``python -m benchmarks.recovery found.jsonl --judge mix --judge wiki.txt --seconds 240`` adds to the file what it lacks;
``--only-table`` prints what lies there. A few steps of a way are timed first, then it is given as many as fit. The time
is of everything that the recovery does, but for text ``self``, which is sampled once a model and told apart.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

import come
from benchmarks.judging import ORIGINAL, Row, cell, divergence, judged_on, keep_row, references, rows, with_error
from benchmarks.merging import plans
from benchmarks.pacing import CLOCKS, TAKEN, Clock, Pace, Stopwatch, timed
from benchmarks.timing import MODEL, machine, markdown
from come.models import Bundle
from come.plan.plan import Plan
from come.recovery.registry import parse
from come.text import SELF
from come.training.trainer import held_out_sequences
from come.transforms.rebuild import replay

NOTHING, DEFAULT = "nothing", "default"


@dataclass(frozen=True)
class Case:
    """A recovery: its ways, the last of which is given the time, their options, and whether it learns from `self`."""

    how: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    own_text: bool = False


SPARSE_CHECKS = {
    "distill-sp.held_out_tokens": 2048,
    "distill-sp.check_every": 16,
}  # as ways that train a whole model have them
CASES = {
    DEFAULT: Case(("default",)),
    "default, text self": Case(("default",), own_text=True),
    "logits alone": Case(("logits",)),
    "logits on KL alone": Case(("refit", "logits"), {"text": 0.0}),
    "merged layers alone": Case(("refit", "logits"), {"trains": "merged"}),
    "distill-sp": Case(("refit", "distill-sp"), SPARSE_CHECKS),
    "distill-sp, predictions": Case(("refit", "distill-sp"), {"output": "model", **SPARSE_CHECKS}),
    "on-policy": Case(("refit", "on-policy")),
    "on-policy, merged layers alone": Case(("refit", "on-policy"), {"trains": "merged"}),
}


@dataclass
class Bench:
    """An original, the tokens to learn from, those that it says itself (text `self`), and what time is told by."""

    bundle: Bundle
    learned: Tensor
    seed: int = 0
    clock: Clock = CLOCKS["wall"]
    said: Tensor | None = None
    paces: dict[str, Pace] = field(default_factory=dict)  # of ways that cost the same whatever was pruned

    def tokens(self, case: Case) -> Tensor:
        """What a recovery learns from, int64 (sequences, tokens); the original is sampled when that is first asked."""
        if not case.own_text:
            return self.learned
        if self.said is None:
            size, seq_len = self.learned.numel(), self.learned.shape[1]
            self.said, spent = timed(lambda: come.tokens(self.bundle, SELF, size, seq_len, seed=self.seed), self.clock)
            print(f"{size:,} tokens of self: {spent:.0f} s, or read back", flush=True)
        return self.said


def recovered(bench: Bench, pruned: Bundle, recovery: str, seconds: float) -> tuple[Bundle, Row]:
    """A pruned model after a recovery of about so many seconds, and what it took."""
    case = CASES[recovery]
    way, options = parse(case.how, case.options)[-1]
    tokens = bench.tokens(case)
    training = tokens[: -held_out_sequences(tokens, options)].numel()
    epoch = -(-training // options.batch_tokens)
    alike = f"{case.how} {case.options}" if getattr(options, "trains", "merged") != "merged" else None
    steps, pace = epoch, bench.paces.get(alike or "")
    for _ in range(2 if pace is None else 0):
        again = steps > epoch  # what is known of tokens that are taken again is kept: a step then takes less
        pace = _paced(bench, pruned, case, way.name, steps)
        steps = pace.steps(seconds, options.check_every)
        if again == (steps > epoch):
            break
    assert pace is not None
    if alike is not None:
        bench.paces[alike] = pace
    steps = pace.steps(seconds, options.check_every)
    asked = case.options | {f"{way.name}.steps": steps}
    result, taken = timed(lambda: come.recover(pruned, bench.bundle, tokens, case.how, **asked), bench.clock)
    told = {"steps": steps, "tokens_taken": steps * options.batch_tokens, "tokens_to_learn_from": tokens.numel()}
    expected = pace.seconds(steps, options.check_every)
    return result.bundle, {"seconds": taken, "expected_seconds": expected, **told, "notes": result.plan.notes[-3:]}


def _paced(bench: Bench, pruned: Bundle, case: Case, way: str, steps: int) -> Pace:
    """How long the parts of a recovery take where it is asked for so many steps: it is stopped after a few."""
    watch = Stopwatch(bench.clock)
    options = case.options | {f"{way}.steps": max(steps, 2 * TAKEN), f"{way}.check_every": TAKEN}
    come.recover(pruned, bench.bundle, bench.tokens(case), case.how, on_progress=watch, stop=watch.enough, **options)
    chosen = parse(case.how, options)[-1][1]
    return watch.pace(max(1, getattr(chosen, "round_tokens", 0) // chosen.batch_tokens))


def measure(
    keep: Path,
    model: str,
    dtype: str,
    calibrate: str,
    texts: list[str],
    pruned_by: list[str],
    cases: list[str],
    layers: int,
    seconds: float,
    clock: str,
    seed: int,
    n_tokens: int,
    learn_tokens: int,
    judge_tokens: int,
    seq_len: int,
    plan_folder: Path | None,
) -> None:
    """Add to the file what it lacks."""
    bundle = come.load(model, dtype=dtype)
    tokens = come.tokens(bundle, calibrate, n_tokens, seq_len, "calibration", seed)
    known = references(bundle, texts, judge_tokens, seq_len)
    here = {
        "layers": layers, "budget": seconds, "clock": clock, "seed": seed, "calibrate": Path(calibrate).name,
        "model": Path(model).name, "threads": torch.get_num_threads(),
    }  # fmt: skip
    done = {(row["case"], row["recovery"], *(row.get(name) for name in here)) for row in rows(keep)}

    def write(case: str, recovery: str, changed: Bundle, **more: Any) -> None:
        texts, what = judged_on(changed, known), {"case": case, "recovery": recovery, **here}
        keep_row(keep, what | more | {"layers": len(changed.layers), "texts": texts, "machine": machine()})
        gc.collect()

    learned = come.tokens(bundle, calibrate, learn_tokens, seq_len, "calibration", seed)
    bench = Bench(bundle, learned, seed, CLOCKS[clock])
    if (ORIGINAL, NOTHING, *(here | {"layers": len(bundle.layers)}).values()) not in done:
        write(ORIGINAL, NOTHING, bundle)
    pruned: dict[str, tuple[Bundle, float]] = {}
    for recovery in (NOTHING, *cases):
        for name in pruned_by:
            if (name, recovery, *here.values()) in done:
                continue
            if name not in pruned:
                file = plan_folder / f"{name}-{layers}-{n_tokens}-{seed}.json" if plan_folder is not None else None
                pruned[name] = _pruned(bundle, tokens, name, layers, file)
            if recovery == NOTHING:
                write(name, NOTHING, pruned[name][0], plan_seconds=pruned[name][1])
                continue
            changed, told = recovered(bench, pruned[name][0], recovery, seconds)
            write(name, recovery, changed, **told)


def grouped(found: Sequence[Row]) -> dict[tuple[str, int, str], list[Row]]:
    """The rows of each plan, size and recovery: one a seed."""
    groups: dict[tuple[str, int, str], list[Row]] = {}
    for row in found:
        groups.setdefault((row["case"], row["layers"], row["recovery"]), []).append(row)
    return groups


def _pruned(bundle: Bundle, tokens: Tensor, name: str, layers: int, file: Path | None) -> tuple[Bundle, float]:
    """A pruned model and the seconds that its plan took: 0 where that lies in the file."""
    if file is not None and file.exists():
        return replay(bundle, Plan.read(file)), 0.0
    ((_, plan, spent),) = plans(bundle, tokens, name, [layers])
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        plan.write(file)
    return replay(bundle, plan), spent


def table(found: Sequence[Row]) -> str:
    """A row a recovery, best first for each plan by the mean divergence over texts; means over seeds."""
    texts, lines = list(found[0]["texts"]), []
    for (case, layers, recovery), same in grouped(found).items():
        total = sum(float(divergence(same, text).mean()) for text in texts)
        steps, seconds = (sum(row.get(name, 0) for row in same) / len(same) for name in ("steps", "seconds"))
        cells = (cell(same, text) for text in texts)
        lines.append(
            ((-layers, case, total), (case, layers, recovery, len(same), f"{steps:.0f}", f"{seconds:.0f}", *cells))
        )
    columns = ("pruned by", "layers", "recovery", "seeds", "steps", "seconds")
    return markdown((*columns, *(f"{text}: perplexity; KL" for text in texts)), [cells for _, cells in sorted(lines)])


def differences(found: Sequence[Row]) -> str:
    """By how much each recovery's divergence lies above the default's, and each plan's above that of the first one."""
    texts, lines = list(found[0]["texts"]), []
    groups = {key: same for key, same in grouped(found).items() if key[0] != ORIGINAL}
    first = next(iter(groups), ("", 0, ""))[0]
    for (case, layers, recovery), same in groups.items():
        for other in ((case, layers, DEFAULT), (first, layers, recovery)):
            if other in groups and other != (case, layers, recovery):
                apart = (divergence(same, text) - divergence(groups[other], text) for text in texts)
                name, against = f"{case}, {recovery}", f"{other[0]}, {other[2]}"
                lines.append((name, against, layers, *(with_error(each) for each in apart)))
    return markdown(("pruned and recovered by", "less that of", "layers", *texts), lines)


def main(
    keep: Path,
    model: str = MODEL,
    dtype: str = "bfloat16",
    calibrate: Annotated[str, typer.Option(help="The text to prune on and to learn from.")] = "mix",
    judge: Annotated[list[str] | None, typer.Option(help="Texts to judge on.")] = None,
    plan: Annotated[list[str] | None, typer.Option(help="Cases of benchmarks.merging.")] = None,
    case: Annotated[list[str] | None, typer.Option(help=f"Any of: {'; '.join(CASES)}.")] = None,
    layers: int = 24,
    seconds: float = 240.0,
    clock: Annotated[str, typer.Option(help=f"What seconds are: {' or '.join(CLOCKS)}.")] = "wall",
    seed: int = 0,
    tokens: Annotated[int, typer.Option(help="To prune on.")] = 8192,
    learn_tokens: int = 65536,
    judge_tokens: int = 4096,
    seq_len: int = 512,
    plan_folder: Annotated[Path | None, typer.Option(help="Where plans are kept, to be read back.")] = None,
    only_table: bool = False,
) -> None:
    """Measure, and print the tables of the file."""
    cases, plans = case or list(CASES), plan or ["come-joint", "shortgpt", "sleb", "come-p"]
    unknown = [name for name in cases if name not in CASES]
    if unknown:
        raise typer.BadParameter(f"There is no case {unknown[0]!r}. Choose from: {'; '.join(CASES)}.")
    if clock not in CLOCKS:
        raise typer.BadParameter(f"There is no clock {clock!r}. Choose from: {', '.join(CLOCKS)}.")
    if not only_table:
        measure(
            keep, model, dtype, calibrate, judge or ["mix", "python-docs"], plans, cases, layers, seconds, clock, seed,
            tokens, learn_tokens, judge_tokens, seq_len, plan_folder,
        )  # fmt: skip
    print(machine(), "\n")
    print(table(rows(keep)), "\n")
    print(differences(rows(keep)))


if __name__ == "__main__":
    typer.run(main)
