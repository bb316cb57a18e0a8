"""Accuracy on multiple-choice questions, through lm-eval, of a model in memory."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import pstdev
from typing import Any

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.evaluate.harness_output import HarnessOutput
from come.evaluate.quiet import quiet, seeded
from come.evaluate.tasks import QuestionSet, load_tasks
from come.events import OnProgress, emit
from come.models import Bundle
from come.models.depth import share
from come.models.not_finite import why_not_finite
from come.models.offload import input_device
from come.numbers import LARGEST_PERPLEXITY

BATCH_SIZE = 16
_BY_CHOICE: tuple[str, ...] = ("acc", "acc_norm")


@dataclass(frozen=True)
class Accuracy:
    """What a model scored on one task.

    Attributes:
        metrics: lm-eval's: "acc" (the likeliest choice is right), "acc_norm" (the likeliest a character), or whatever
            else the task measures, each with its "_stderr"; "items", how many questions; "chance", what guessing
            scores: the mean of 1 / choices, 0 where nothing is chosen.
        hits: by metric, 1 or 0 for each question in order, so that two models can be compared question by question.
        questions: SHA-256 of the questions, in order; "" where it is not known.
        spreads: for each question in order how far its choices are apart: the standard deviation of their log
            perplexities (nats a token, each given the question); nothing where there is nothing to choose.
    """

    metrics: dict[str, float]
    hits: dict[str, list[int]] = field(default_factory=dict)
    questions: str = ""
    spreads: list[float] = field(default_factory=list)

    def to_results(self) -> dict[str, float]:
        """What results hold of it, by name; an error that a single question does not have is left out.

        Raises:
            ComeError: another metric is no number.
        """
        found = {}
        for name, value in self.metrics.items():
            if "perplexity" in name and value > LARGEST_PERPLEXITY:
                found[name] = LARGEST_PERPLEXITY
            elif math.isfinite(value):
                found[name] = value
            elif not name.partition(",")[0].endswith("_stderr"):
                raise ComeError(f"The metric {name} came out as no number.", "Leave its task out, or use float32.")
        return found


def accuracy(
    bundle: Bundle,
    tasks: str | Sequence[str] = ("bundled",),
    limit: int | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress = None,
) -> dict[str, dict[str, float]]:
    """``measure_accuracy``'s metrics by task."""
    measured = measure_accuracy(bundle, tasks, limit, batch_size=batch_size, on_progress=on_progress)
    return {name: scored.metrics for name, scored in measured.items()}


def measure_accuracy(
    bundle: Bundle,
    tasks: str | Sequence[str] = ("bundled",),
    limit: int | None = None,
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress = None,
    message: str = "Accuracy",
    output: HarnessOutput | None = None,
) -> dict[str, Accuracy]:
    """How many questions a model answers right, by task.

    A choice's score is the model's log-likelihood of it as the continuation of the question, with a float32 softmax.
    lm-eval puts requests of like length in a batch. Each task is scored by itself, so that its metrics do not depend on
    which others are asked for.

    Args:
        bundle: the model; it stays as it is.
        tasks: names of ``come.evaluate.tasks.OFFLINE`` or ``GROUPS``, paths of .jsonl files, names of lm-eval's tasks.
        limit: only the first so many questions of each task.
        batch_size: choices at a time.
        on_progress: told of each hundredth of a task.
        message: what to say there, before the task's name.
        output: takes up what lm-eval gives of each task.

    Raises:
        ComeError: a task is unknown, malformed or out of reach, the limit is below 1, the model's values are not
            finite, or answers are to be written by a model whose tokenizer has no end of text.
    """
    if limit is not None and limit < 1:
        raise ComeError(f"{limit} questions are too few.", "Ask for at least 1, or leave the limit out.")
    sets = load_tasks(tasks)
    _refuse_endless(bundle.tokenizer, sets)
    lm = _language_model(bundle, batch_size)
    found: dict[str, Accuracy] = {}
    for index, task in enumerate(sets):

        def tell(share_done: float, before: int = index, name: str = task.name) -> None:
            emit(on_progress, "accuracy", 100 * before + int(100 * share_done), 100 * len(sets), f"{message}: {name}")

        tell(0)
        found |= _score(bundle, lm, task, limit, tell, output)
    return found


def _language_model(bundle: Bundle, batch_size: int) -> Any:
    """lm-eval's hold on the model in memory: modules and tokenizer of its own, since it ties and pads them."""
    with quiet():
        from lm_eval.models.huggingface import HFLM

        lm = HFLM(
            pretrained=share(bundle.model),
            tokenizer=copy.deepcopy(bundle.tokenizer),
            batch_size=batch_size,
            softmax_dtype="float32",
            prefix_token_id=_before_a_text(bundle.tokenizer),
        )
    lm._device = input_device(bundle.model)  # lm-eval asks the model, whose weights accelerate may keep elsewhere
    return lm


def _before_a_text(tokenizer: Any) -> int:
    """The token that stands before a continuation of nothing: the start or the end of text, else a line break."""
    line_break = tokenizer.encode("\n", add_special_tokens=False)
    marks = (tokenizer.bos_token_id, tokenizer.eos_token_id, *line_break, 0)
    return next(int(mark) for mark in marks if mark is not None)


def _refuse_endless(tokenizer: Any, sets: Sequence[QuestionSet]) -> None:
    """Refuse tasks whose answers end where the model ends them, of a tokenizer without an end."""
    if tokenizer.eos_token_id is not None:
        return
    for task in sets:
        if any(leaf.OUTPUT_TYPE == "generate_until" for leaf in task.loaded["tasks"].values()):
            raise ComeError(
                f"The task {task.name} has the model write until it ends, and its tokenizer has no end of text.",
                "Choose tasks with answers to choose from, or give the tokenizer an eos_token.",
            )


def _score(
    bundle: Bundle,
    lm: Any,
    task: QuestionSet,
    limit: int | None,
    tell: Callable[[float], None],
    output: HarnessOutput | None = None,
) -> dict[str, Accuracy]:
    from lm_eval.evaluator import evaluate

    leaves = task.loaded["tasks"]
    lm.set_cache_hook(_Answers(bundle, list(leaves.values()), tell))
    # The errors of means have a formula. Those of other metrics would be bootstrapped, so there lm-eval gives none.
    by_formula = all(_has_formula(leaf) for leaf in leaves.values())
    with quiet(), seeded(), _numbers_only(bundle, lm.model):
        try:
            results = evaluate(lm=lm, task_dict=task.loaded, limit=limit, bootstrap_iters=int(by_formula))
        except OverflowError as error:  # lm-eval's exp of a mean loss
            raise ComeError(f"A perplexity on {task.name} is too large to hold.", "Leave that task out.") from error
    tell(1)
    if output is not None:
        output.add(results)
    by_leaf = {
        name: _accuracy(results["results"][name], leaf, results["samples"][name], lm) for name, leaf in leaves.items()
    }
    if task.name not in results.get("groups", {}):
        return by_leaf
    return {task.name: _of_group(results["groups"][task.name], list(by_leaf.values()))}


class _Answers:
    """lm-eval tells its cache of each answer; this one counts them, and refuses those that are no numbers."""

    def __init__(self, bundle: Bundle, tasks: list[Any], tell: Callable[[float], None]) -> None:
        self.bundle = bundle
        self.tasks = tasks
        self.tell = tell
        self.done = 0

    def add_partial(self, _kind: str, request: tuple[Any, ...], answer: Any) -> None:
        """One more request has been answered: by a log-likelihood, alone or with more, or by a text.

        Raises:
            ComeError: the log-likelihood is not finite.
        """
        score = answer[0] if isinstance(answer, tuple) else answer
        if isinstance(score, float) and not math.isfinite(score):
            text = "".join(part for part in request if isinstance(part, str))
            raise why_not_finite(self.bundle, _read(self.bundle, text))
        requests = sum(len(task.instances) for task in self.tasks)
        self.done += 1
        if 100 * self.done // requests > 100 * (self.done - 1) // requests:
            self.tell(min(1.0, self.done / requests))


@contextmanager
def _numbers_only(bundle: Bundle, model: nn.Module) -> Iterator[None]:
    """Within, a model that is asked for texts is stopped where it would write on from what is no number."""

    def see(_module: nn.Module, _args: Any, given: dict[str, Any], output: Any) -> None:
        if given.get("use_cache") and bool(output.logits[:, -1].isnan().any()):
            raise why_not_finite(bundle, given["input_ids"])

    handle = model.register_forward_hook(see, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()


def _read(bundle: Bundle, text: str) -> Tensor:
    """A text as the model reads it, int64 (1, tokens), as much of its end as it reads at once."""
    ids = bundle.tokenizer(text, verbose=False)["input_ids"]
    return torch.tensor([ids[-(getattr(bundle.model.config, "max_position_embeddings", None) or len(ids)) :]])


def _has_formula(task: Any) -> bool:
    from lm_eval.api.metrics import acc_all, mean

    return all(function in (mean, acc_all) for function in task.aggregation().values())


def _accuracy(raw: dict[str, Any], task: Any, samples: list[dict[str, Any]], lm: Any) -> Accuracy:
    """One task's metrics, under plain names, with those that lm-eval does not give."""
    from lm_eval.api.metrics import mean, mean_stderr

    metrics = _plain(raw)
    first = [sample for sample in samples if sample["filter"] == samples[0]["filter"]]
    means = [metric for metric, function in task.aggregation().items() if function is mean and metric in metrics]
    for metric in means:
        if len(first) > 1:
            metrics.setdefault(f"{metric}_stderr", mean_stderr([sample[metric] for sample in first]))
    hits = {metric: [int(sample[metric]) for sample in first] for metric in _BY_CHOICE if metric in means}
    chosen = task.OUTPUT_TYPE == "multiple_choice"
    chance = sum(1 / len(sample["arguments"]) for sample in first) / len(first) if chosen else 0.0
    asked = _hash([str(sample["doc_hash"]) for sample in first])
    spreads = [_spread(sample, lm) for sample in first] if chosen and "acc" in hits else []
    return Accuracy({**metrics, "items": len(first), "chance": chance}, hits, asked, spreads)


def _spread(sample: dict[str, Any], lm: Any) -> float:
    """The standard deviation of the log perplexities of a question's choices."""
    losses: list[float] = [
        -response[0] / max(1, len(lm._encode_pair(*pair)[1]))
        for response, pair in zip(sample["filtered_resps"], sample["arguments"], strict=False)
    ]
    return pstdev(losses)


def _hash(texts: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _of_group(raw: dict[str, Any], leaves: list[Accuracy]) -> Accuracy:
    """lm-eval's metrics of a whole group; its questions are those of its tasks, one after the other."""
    items = sum(leaf.metrics["items"] for leaf in leaves)
    chance = sum(leaf.metrics["chance"] * leaf.metrics["items"] for leaf in leaves) / items
    metrics = _plain(raw)
    hits = {
        metric: [hit for leaf in leaves for hit in leaf.hits[metric]]
        for metric in _BY_CHOICE
        if metric in metrics and all(metric in leaf.hits for leaf in leaves)
    }
    spreads = [each for leaf in leaves for each in leaf.spreads] if "acc" in hits else []
    asked = _hash([leaf.questions for leaf in leaves])
    return Accuracy({**metrics, "items": items, "chance": chance}, hits, asked, spreads)


def _plain(raw: dict[str, Any]) -> dict[str, float]:
    """lm-eval's "acc,none" as "acc", other filters' "exact_match,strict" as they are; only what is a number."""
    return {
        key.removesuffix(",none"): float(value)
        for key, value in raw.items()
        if "," in key and isinstance(value, int | float)
    }
