"""What a run is asked for by: the options that commands share, and the fields of a request that they come to."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from come.cli.options import parse_pairs
from come.errors import ComeError
from come.events import OnProgress
from come.request import RunConfig
from come.runs import ClusterTarget, Run, cluster_target, execute


def least(field: str) -> int:
    """The least that a number of a request may be, so that an option says it before anything is read."""
    return int(next(each.ge for each in RunConfig.model_fields[field].metadata if hasattr(each, "ge")))


Model = Annotated[str, typer.Option("--model", "-m", help="A name from `come models`, a folder, a .gguf, a hub id.")]
Text = Annotated[str, typer.Option("--text", "-t", help="Calibration text: python-docs, a .txt, a .jsonl, a hub set.")]
Tokens = Annotated[int, typer.Option("--tokens", min=least("n_tokens"), help="How many calibration tokens.")]
SeqLen = Annotated[int, typer.Option("--seq-len", min=least("seq_len"), help="Tokens in a sequence.")]
Seed = Annotated[
    int, typer.Option("--seed", min=least("seed"), help="Draws the sequences, and whatever a method draws.")
]
BatchSize = Annotated[
    int | None,
    typer.Option("--batch-size", min=least("batch_size"), help="Sequences at a time (else about 2,048 tokens)."),
]
Dtype = Annotated[str, typer.Option("--dtype", help="auto (as stored), float32, bfloat16, float16.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps; balanced: over all GPUs.")]
Evaluate = Annotated[
    str,
    typer.Option("--evaluate", help="What to measure of the result: any of ppl,acc,speed; or none."),
]
Tasks = Annotated[
    str, typer.Option("--tasks", help="For acc: bundled, mmlu_dev, any lm-eval task, your .jsonl; several with commas.")
]
TaskLimit = Annotated[
    int | None, typer.Option("--limit", min=least("task_limit"), help="Items of each task (else all).")
]
EvaluationText = Annotated[
    str | None, typer.Option("--evaluation-text", help="Text for ppl (else the held-back part of --text).")
]
EvaluationTokens = Annotated[
    int, typer.Option("--evaluation-tokens", min=least("evaluation_tokens"), help="How many tokens for it.")
]
Recover = Annotated[
    str,
    typer.Option(
        "--recover",
        help="Give back what was lost: default (refit, then logits), or refit, distill-mp, distill-sp, logits, lora, "
        "partial; several with commas.",
    ),
]
RecoverOption = Annotated[
    list[str] | None,
    typer.Option("--recover-option", help="key=value of the ways of recovery, or way.key=value for one of them."),
]
RecoverText = Annotated[str | None, typer.Option("--recover-text", help="Text to learn from (else --text).")]
RecoverTokens = Annotated[
    int, typer.Option("--recover-tokens", min=least("recover_tokens"), help="How many tokens of it.")
]
On = Annotated[
    str,
    typer.Option("--on", help="local, or Ray: ray://HOST:PORT, ray:auto, HOST:PORT, with ?gpus=0.5 and so on."),
]
Runs = Annotated[Path | None, typer.Option("--runs", help="The folder of runs (else COME_RUNS, else ./runs).")]


def place_on(on: str) -> ClusterTarget | None:
    """The cluster of ``--on``, which answers; None for this machine.

    Raises:
        ComeError: it is no place, Ray is not installed here, or there is none at the address.
    """
    place = cluster_target(on)
    if place is not None:
        from come.cluster import check_reachable

        check_reachable(place)
    return place


def execute_at(place: ClusterTarget | None, run: Run, on_progress: OnProgress) -> None:
    """Execute a run here, or on a cluster, and wait for its end."""
    if place is None:
        execute(run, on_progress)
        return
    from come.cluster import execute_on

    execute_on(place, run, on_progress)


def recovery_of(recover: str, option: list[str] | None, text: str | None, tokens: int) -> dict[str, Any]:
    """The fields of a request that say how to give back what was lost."""
    from come.recovery.registry import names_of

    names = names_of(recover)
    return {
        "recover": names,
        "recover_options": _recovery_options(names, option or []),
        "recover_text": text,
        "recover_tokens": tokens,
    }


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


def evaluation_of(
    evaluate: str, tasks: str, limit: int | None, evaluation_text: str | None, evaluation_tokens: int
) -> dict[str, Any]:
    """The fields of a request that say what to measure of the result."""
    return {
        "evaluate": [what.strip() for what in evaluate.split(",") if what.strip() not in ("", "none")],
        "tasks": [task.strip() for task in tasks.split(",") if task.strip()],
        "task_limit": limit,
        "evaluation_text": evaluation_text,
        "evaluation_tokens": evaluation_tokens,
    }
