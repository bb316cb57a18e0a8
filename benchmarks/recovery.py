"""Recovery on the bundled model: what each way gives back for its time, in the text's domain and out of it.

``python -m benchmarks.recovery wiki.txt --keep found.jsonl come-p-24-full ...`` measures the cases that are named, or
all of them; what lies in the file already is not measured again. Each case is pruned on 8,192 tokens of the text or
fewer, trained on its calibration part, and judged on 8,192 tokens of its evaluation part and of the bundled text.
"""

from __future__ import annotations

import gc
import json
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

import come
from benchmarks.timing import MODEL, TEXT, forward, in_turn, machine
from come.evaluate import Accuracy, measure_accuracy
from come.evaluate.divergence import measure_divergence, perplexity_of_reference
from come.evaluate.retention import mean_retention, retained_by_task
from come.measurement.divergence import Reference, reference
from come.models import Bundle

BUDGET = 60.0  # times a pass of the float32 trunk over CALIBRATION tokens: what a recovery may take
CALIBRATION, EVALUATION, SEQ_LEN = 8192, 8192, 512
TASKS, LIMIT = ["bundled"], 100
ORIGINAL = "original"
QUICK = {"search": "coarse-to-fine"}


@dataclass(frozen=True)
class Case:
    """One way to prune and to recover.

    Attributes:
        method, layers: how to prune, and to how many layers; "original" prunes nothing (a control).
        merge: options of the method.
        calibration: tokens to prune on.
        how, options: ways of recovery and their options.
        tokens: to recover on; all that there are by default.
        share: of the budget, for the way that trains.
        tasks: whether to answer the bundled tasks too.
    """

    method: str
    layers: int
    how: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    merge: dict[str, Any] = field(default_factory=dict)
    calibration: int = CALIBRATION
    tokens: int | None = None
    share: float | None = None
    tasks: bool = False


def _trained(method: str, layers: int, how: tuple[str, ...], **options: Any) -> Case:
    """A case of the ablation: a share of the budget."""
    return Case(method, layers, how, {f"{how[-1]}.{name}": value for name, value in options.items()}, share=0.15)


CASES = {
    "original": Case(ORIGINAL, 30, tasks=True),
    "come-24": Case("come", 24, tasks=True),
    "come-24-refit": Case("come", 24, ("refit",), tokens=CALIBRATION, tasks=True),
    "shortgpt-24": Case("shortgpt", 24),
    "shortgpt-24-refit": Case("shortgpt", 24, ("refit",), tokens=CALIBRATION),
    "come-24-mse": Case("come", 24, ("refit", "distill-mp"), {"loss": "mse"}, share=0.15),
    "come-24-cosine": Case("come", 24, ("refit", "distill-mp"), {"loss": "cosine"}, share=0.15),
    "come-24-kl": Case("come", 24, ("refit", "distill-mp"), {"loss": "kl"}, share=0.15),
    "come-24-sp": Case("come", 24, ("refit", "distill-sp"), {"loss": "mse"}, share=0.15),
    "come-24-logits-alone": _trained("come", 24, ("logits",)),
    "come-24-logits": _trained("come", 24, ("refit", "logits")),
    "come-24-logits-kl": _trained("come", 24, ("refit", "logits"), text=0.0),
    "come-24-lora": _trained("come", 24, ("refit", "lora")),
    "come-24-partial": _trained("come", 24, ("refit", "partial")),
    "shortgpt-24-logits": _trained("shortgpt", 24, ("refit", "logits")),
    "come-p-24-logits": _trained("come-p", 24, ("refit", "logits"), merge=QUICK, calibration=4096),
    "original-logits": _trained(ORIGINAL, 30, ("logits",)),
    "original-full": Case(ORIGINAL, 30, ("logits",), share=0.92, tasks=True),
    "come-p-24-full": Case("come-p", 24, ("refit", "logits"), merge=QUICK, calibration=4096, share=0.92, tasks=True),
    "come-p-21-full": Case("come-p", 21, ("refit", "logits"), merge=QUICK, calibration=4096, share=0.92, tasks=True),
    "come-24-full": Case("come", 24, ("refit", "logits"), share=0.92, tasks=True),
    "come-21-full": Case("come", 21, ("refit", "logits"), share=0.92, tasks=True),
    "shortgpt-24-full": Case("shortgpt", 24, ("refit", "logits"), share=0.92, tasks=True),
    "shortgpt-21-full": Case("shortgpt", 21, ("refit", "logits"), share=0.92, tasks=True),
}
UNRECOVERED = ("come-p", "deeper", "fisher", "sleb", "streamline", "taylor")  # those that lose least without recovery
for _layers in (27, 24, 21):
    for _method in UNRECOVERED:
        _merge = QUICK if _method == "come-p" else {}
        CASES[f"{_method}-{_layers}"] = Case(_method, _layers, merge=_merge, calibration=4096)
    CASES[f"come-p-{_layers}-refit"] = Case(
        "come-p", _layers, ("refit",), merge=QUICK, calibration=4096, tokens=CALIBRATION
    )


@dataclass
class Bench:
    """The original with its text, its predictions in the two domains and, once asked for, its answers."""

    text: str
    bundle: Bundle
    known: dict[str, Reference]
    trunk_seconds: float
    answers: dict[str, Accuracy] = field(default_factory=dict)


def prepared(text: str) -> Bench:
    """Load the original, run it over both texts and time its trunk in float32."""
    bundle = come.load(MODEL, device="cpu", dtype="bfloat16")
    known = {
        name: reference(bundle, come.tokens(bundle, source, EVALUATION, SEQ_LEN, split="evaluation"))
        for name, source in (("in", text), ("out", TEXT))
    }
    exact = come.load(MODEL, device="cpu", dtype="float32")
    tokens = come.tokens(exact, text, CALIBRATION, SEQ_LEN)
    times = in_turn([lambda: forward(exact, tokens, 4)], 3)[0]
    return Bench(text, bundle, known, statistics.median(times))


def measured(bench: Bench, case: Case) -> dict[str, Any]:
    """Prune, recover and judge."""
    row: dict[str, Any] = {"trunk_seconds": bench.trunk_seconds}
    student = bench.bundle
    if case.method != ORIGINAL:
        tokens = come.tokens(bench.bundle, bench.text, case.calibration, SEQ_LEN)
        began = time.perf_counter()
        student = come.compress(bench.bundle, tokens, case.method, target_layers=case.layers, **case.merge).bundle
        row["prune_seconds"] = time.perf_counter() - began
    if case.how:
        options = dict(case.options)
        if case.share is not None:
            options[f"{case.how[-1]}.minutes"] = case.share * BUDGET * bench.trunk_seconds / 60
        curve: list[Any] = []

        def note(event: come.Event) -> None:
            if event.values.get("held_out_loss") is not None:
                values = (event.values.get(name) for name in ("layer", "step", "steps", "train_loss", "held_out_loss"))
                curve.append([round(time.perf_counter() - began, 1), *values])

        tokens = _training_tokens(bench, case.tokens)
        began = time.perf_counter()
        result = come.recover(
            student, bench.bundle, tokens, case.how, control=case.method == ORIGINAL, on_progress=note, **options
        )
        row |= {"recover_seconds": time.perf_counter() - began, "tokens": tokens.numel(), "curve": curve}
        row["notes"] = result.plan.notes[-3:]
        student = result.bundle
    for name, known in bench.known.items():
        before = perplexity_of_reference(known)
        after, divergence = measure_divergence(student, known)
        row[name] = {
            "original": before.value, "perplexity": after.value, "stderr": after.stderr, "kl": divergence.value,
        }  # fmt: skip
    if case.tasks:
        bench.answers = bench.answers or measure_accuracy(bench.bundle, TASKS, LIMIT)
        after_tasks = measure_accuracy(student, TASKS, LIMIT)
        shares = retained_by_task(bench.answers, after_tasks)
        row["accuracy"] = {task: each.metrics["acc"] for task, each in after_tasks.items()}
        row["retention"] = mean_retention(list(shares.values()))
        row["retention_by_task"] = shares
    return row


def _training_tokens(bench: Bench, n_tokens: int | None) -> torch.Tensor:
    if n_tokens is not None:
        return come.tokens(bench.bundle, bench.text, n_tokens, SEQ_LEN)
    usable = len(bench.bundle.tokenizer(Path(bench.text).read_text(), add_special_tokens=False)["input_ids"]) * 4 // 5
    return come.tokens(bench.bundle, bench.text, usable // SEQ_LEN * SEQ_LEN, SEQ_LEN)


def main(
    text: Annotated[str, typer.Argument(help="WikiText-2's validation split, as a .txt file.")],
    names: Annotated[list[str] | None, typer.Argument(help="Cases; all by default.")] = None,
    keep: Annotated[Path, typer.Option(help="Where rows are kept, one a line.")] = Path("recovery.jsonl"),
) -> None:
    """Measure cases of recovery, and keep what was found."""
    found = [json.loads(line)["case"] for line in keep.read_text().splitlines()] if keep.exists() else []
    todo = [name for name in names or CASES if name not in found]
    unknown = [name for name in todo if name not in CASES]
    if unknown:
        raise typer.BadParameter(f"There is no case {unknown[0]!r}. Choose from: {', '.join(CASES)}.")
    bench = prepared(text)
    print(f"{machine()}; a pass of the float32 trunk over {CALIBRATION:,} tokens: {bench.trunk_seconds:.1f} s")
    for name in todo:
        row = {"case": name, "machine": machine()} | measured(bench, CASES[name])
        with keep.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(name, {key: value for key, value in row.items() if key not in ("case", "machine", "curve")}, flush=True)
        gc.collect()


if __name__ == "__main__":
    typer.run(main)
