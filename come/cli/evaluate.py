"""`come evaluate`: perplexity on text, accuracy on questions, speed; and what of the original is left."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from come.cli.request import DEVICE, asks_for, option_of, pieces
from come.cli.scores import show_accuracy, show_probes, show_speed
from come.cli.screen import AsJson, progress, show, show_json
from come.errors import ComeError
from come.numbers import perplexity_text
from come.request import RunConfig

if TYPE_CHECKING:
    from come.evaluate import Accuracy, Probe
    from come.evaluate.harness_output import HarnessOutput
    from come.events import OnProgress
    from come.models import Bundle

_TASKS = (
    "Questions to answer, comma-separated. Without a network: bundled (physical_sense, what_happens_next, "
    "school_science, facts_cloze), mmlu_dev, .jsonl files of your own; with one, any lm-eval task. "
    "ppl stands for perplexity."
)


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("evaluate")(evaluate)


@asks_for("model", "seq_len", "bos", "seed", *DEVICE)
def evaluate(
    config: RunConfig,
    tasks: Annotated[str, option_of("tasks", help=_TASKS)] = "",
    limit: Annotated[int | None, option_of("task_limit", help="Only the first so many questions of a task.")] = None,
    text: Annotated[
        str | None,
        option_of(
            "text",
            help="Perplexity on its held-out part: python-docs, mix, a hub set, or a file as `come run` takes it.",
        ),
    ] = None,
    tokens: Annotated[int | None, option_of("n_tokens", help="On how many tokens (else 4,096).")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Tokens a second and memory, too.")] = False,
    probe: Annotated[
        str,
        typer.Option(
            "--probe",
            metavar="TASKS",
            help="Which depths these questions can be answered from: a mix of all layers' states, learned on 7 of 10. "
            "bundled, mmlu_dev, .jsonl files.",
        ),
    ] = "",
    against: Annotated[
        str | None,
        typer.Option(
            "--against",
            metavar="ORIGINAL",
            help="The model that it was pruned from: adds the divergence from it, its own numbers, and what is left.",
        ),
    ] = None,
    lm_eval: Annotated[
        Path | None,
        typer.Option(
            "--lm-eval", help="Write lm-eval's own results there, as its --output_path does.", metavar="FOLDER"
        ),
    ] = None,
    samples: Annotated[
        bool, typer.Option("--samples", help="With --lm-eval: each question with its answers, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure a model, pruned or not: perplexity on text, accuracy on questions, speed.

    Perplexity is measured where nothing else is asked for, and wherever --text, --tokens or the task ppl is given.

    [bold]Examples[/bold]

    The bundled model's perplexity:  come evaluate

    A pruned one's, on your text and questions:  come evaluate -m smollm2-27-layers --text notes.txt --tasks my.jsonl

    What pruning cost:  come evaluate -m smollm2-27-layers --against smollm2-135m --tasks ppl,bundled --speed

    Which depths tasks read from:  come evaluate -m smollm2-27-layers --against smollm2-135m --probe bundled
    """
    from come.evaluate.harness_output import HarnessOutput
    from come.evaluate.probe import questions_to_probe
    from come.evaluate.tasks import check_tasks
    from come.models import load
    from come.text import read

    questions, probed = [name for name in pieces(tasks) if name != "ppl"], pieces(probe)
    wants_text = "ppl" in pieces(tasks) or text is not None or tokens is not None or not (questions or speed or probed)
    asked = config.model_copy(
        update={
            "evaluate": ["ppl"] * wants_text + ["acc"] * bool(questions) + ["speed"] * speed,
            "text": text or config.text,
            "n_tokens": tokens or 4096,
            "tasks": questions,
            "task_limit": limit,
        }
    )
    if lm_eval is None and samples:
        raise ComeError("--samples says what to write with --lm-eval FOLDER.", "Name a folder, or leave it out.")
    if lm_eval is not None and not questions:
        raise ComeError("lm-eval gives results of questions.", "Name some: --tasks bundled.")
    output = HarnessOutput() if lm_eval is not None else None
    if wants_text:
        read(asked.text, "evaluation")  # what is wrong with a request is told before the model is loaded
    if questions:
        check_tasks(questions)
    if probed:
        questions_to_probe(probed, limit)
    with progress() as on_progress:
        bundle = load(asked.model, asked.device, asked.dtype, on_progress)
        original = load(against, asked.device, asked.dtype, on_progress) if against is not None else None
        found = _measure(bundle, original, asked, on_progress, output)
        probes = _probe(bundle, original, probed, asked, on_progress)
    written = output.write(lm_eval, bundle, limit, samples) if output is not None and lm_eval is not None else []
    if as_json:
        files = {"lm_eval": list(map(str, written))} if written else {}
        document = {"model": asked.model, **({"against": against} if against else {}), **found.to_dict(), **files}
        show_json({**document, **({"probe": probes} if probes else {})})
    else:
        _tell(found)
        for which, told in probes.items():
            source = against if which == "original" else asked.model
            show_probes("original: " if which == "original" else "", told, _groups(source or ""))
        for path in written:
            show(str(path))


@dataclass
class _Found:
    """What was measured of the model, of the original, and between them; as results.json has it."""

    text: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    original: dict[str, Any] = field(default_factory=dict)
    retention: dict[str, Any] = field(default_factory=dict)
    stability: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """One document; of the original and of what is left only where there was one."""
        between = {"original": self.original, "retention": self.retention, "stability": self.stability}
        return {**self.text, **self.model, **{name: value for name, value in between.items() if value}}


def _measure(
    bundle: Bundle,
    original: Bundle | None,
    asked: RunConfig,
    on_progress: OnProgress,
    output: HarnessOutput | None = None,
) -> _Found:
    found = _Found()
    if "ppl" in asked.evaluate:
        _predict(bundle, original, asked, found, on_progress)
    if "acc" in asked.evaluate:
        _answer(bundle, original, asked, found, on_progress, output)
    if "speed" in asked.evaluate:
        from come.evaluate import compare_speed

        models = (bundle,) if original is None else (bundle, original)
        for metrics, measured in zip(
            (found.model, found.original), compare_speed(*models, on_progress=on_progress), strict=False
        ):
            metrics["speed"] = measured.metrics()
    return found


def _predict(bundle: Bundle, original: Bundle | None, asked: RunConfig, found: _Found, on_progress: OnProgress) -> None:
    from come.evaluate import measure_divergence, measure_perplexity, perplexity_of_reference, reference
    from come.text import begins_with, describe_text, tokens

    batch = tokens(bundle, asked.text, asked.n_tokens, asked.seq_len, "evaluation", asked.seed, bos=asked.bos)
    form = describe_text(asked.text, "evaluation", bundle.tokenizer).get("form")
    found.text = {
        "text": asked.text,
        **({"form": form} if form else {}),
        "n_tokens": batch.numel(),
        "seq_len": asked.seq_len,
        "bos": begins_with(batch, bundle.tokenizer),
    }
    if original is None:
        found.model |= measure_perplexity(bundle, batch, batch_size=asked.batch_size, on_progress=on_progress).metrics()
        return
    known = reference(original, batch, batch_size=asked.batch_size, on_progress=on_progress)
    perplexity, divergence = measure_divergence(bundle, known, on_progress=on_progress)
    found.model |= {**perplexity.metrics(), **divergence.metrics()}
    found.original |= perplexity_of_reference(known).metrics()


def _answer(
    bundle: Bundle,
    original: Bundle | None,
    asked: RunConfig,
    found: _Found,
    on_progress: OnProgress,
    output: HarnessOutput | None,
) -> None:
    from come.evaluate import mean_retention, retained_by_task, stability_by_task
    from come.evaluate.accuracy import BATCH_SIZE, measure_accuracy

    def scored(which: Bundle, message: str, output: HarnessOutput | None = None) -> dict[str, Accuracy]:
        size, tell = asked.batch_size or BATCH_SIZE, on_progress
        return measure_accuracy(
            which, asked.tasks, asked.task_limit, batch_size=size, on_progress=tell, message=message, output=output
        )

    ours = scored(bundle, "Accuracy", output)
    found.model["accuracy"] = {name: one.to_results() for name, one in ours.items()}
    if original is None:
        return
    theirs = scored(original, "Accuracy of the original")
    found.original["accuracy"] = {name: one.to_results() for name, one in theirs.items()}
    left = retained_by_task(theirs, ours)
    found.retention = {
        name: {"retention": value, "retention_stderr": stderr}
        for name, (value, stderr) in {**left, "mean": mean_retention(list(left.values()))}.items()
    }
    stable = stability_by_task(theirs, ours)
    if stable:
        found.stability = {
            name: {"stability": value, "stability_stderr": stderr}
            for name, (value, stderr) in {**stable, "mean": mean_retention(list(stable.values()))}.items()
        }


def _groups(source: str) -> list[list[int]]:
    """The original layers that each layer of a pruned model's folder stands for, by its plan; nothing without one."""
    from come.plan.plan import Plan

    plan = Path(source).expanduser() / "plan.json"
    with suppress(ComeError):  # a plan that cannot be read names no layers
        if plan.is_file():
            return Plan.read(plan).groups()
    return []


def _probe(
    bundle: Bundle, original: Bundle | None, tasks: list[str], asked: RunConfig, on_progress: OnProgress
) -> dict[str, dict[str, Probe]]:
    """By "model" and, where there is one, "original": the probe of each task."""
    from come.evaluate import probe

    models = {"model": bundle, **({"original": original} if original is not None else {})} if tasks else {}
    told = {"model": "Probe", "original": "Probe of the original"}
    return {
        name: probe(
            each,
            tasks,
            asked.task_limit,
            seed=asked.seed,
            batch_size=asked.batch_size,
            on_progress=on_progress,
            message=told[name],
        )
        for name, each in models.items()
    }


def _tell(found: _Found) -> None:
    from come.text import short_name

    text = short_name(found.text.get("text", ""))
    if "form" in found.text:
        show(f"{text} was read as {found.text['form']}.")
    for title, metrics in (("", found.model), ("original: ", found.original)):
        if "perplexity" in metrics:
            told = f"{title}perplexity {perplexity_text(metrics['perplexity'], '.3f')}"
            told += f", {metrics['bits_per_byte']:.4f} bits per byte" if "bits_per_byte" in metrics else ""
            told += f", KL {metrics['kl']:.4f} nats per token from the original" if "kl" in metrics else ""
            show(f"{told} on {found.text['n_tokens']:,} tokens of {text}")
        if "speed" in metrics:
            show_speed(title, metrics["speed"])
    if "accuracy" in found.model:
        left = {name: (each["retention"], each["retention_stderr"]) for name, each in found.retention.items()}
        stable = {name: (each["stability"], each["stability_stderr"]) for name, each in found.stability.items()}
        show_accuracy(found.model["accuracy"], found.original.get("accuracy", {}), left, stable)
