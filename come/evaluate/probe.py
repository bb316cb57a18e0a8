"""Which depths a task reads from: a learned mix of the states of all layers, and one head over the answers.

ELMo's mix (Peters et al. 2018, arXiv 1802.05365, equation 1): γ Σ_j s_j h_j, with s the softmax of one number a layer
and h_j the layer's states, which are normed first, as ELMo allows. BERMo (Kodge and Roy 2021, arXiv 2110.15802) puts it
upon BERT. Here the model is not trained: the mix and the head are learned on some questions and judged on the others.
A linear head takes up γ, so they are learned as one, and γ is told for a head of length 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.evaluate.perplexity import mean_stderr
from come.evaluate.probed import FEWEST, Probe
from come.evaluate.tasks import check_tasks, questions_at_hand
from come.evaluate.tasks.questions import Question
from come.events import OnProgress, emit
from come.measurement.calibrate import batches
from come.measurement.layer_runner import LayerRunner, check_finite
from come.measurement.suffix import each_border
from come.models import Bundle

HELD_OUT = 0.3  # of the questions
HEAD_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # of γ², of which a part of the training questions chooses
MIX_PENALTY = 1e-3  # of the squares of what the softmax is taken of: ELMo's small one, which lets layers differ
_ITERATIONS = 100


@dataclass(frozen=True)
class Choices:
    """What a probe learns from: every choice of every question.

    Attributes:
        states: (choices, layers + 1, hidden_size), float32, each normed to mean 0 and variance 1.
        places: int64 (questions, most choices): a question's choices among these; −1 where it has fewer.
        answers: int64 (questions,): which choice of a question is right.
    """

    states: Tensor
    places: Tensor
    answers: Tensor

    def of(self, questions: Tensor) -> Choices:
        """Those of some of the questions, int64 (questions,)."""
        places = self.places[questions]
        used = places[places >= 0]
        renumbered = torch.full_like(places, -1)
        renumbered[places >= 0] = torch.arange(len(used))
        return Choices(self.states[used], renumbered, self.answers[questions])


@dataclass(frozen=True)
class _Learned:
    head: Tensor  # (hidden_size,), γ times one of length 1
    mix: Tensor  # (layers + 1,), before the softmax


def probe(
    bundle: Bundle,
    tasks: str | Sequence[str] = ("bundled",),
    limit: int | None = None,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    on_progress: OnProgress = None,
    message: str = "Probe",
) -> dict[str, Probe]:
    """A probe of each task.

    A choice is read as "question choice", and what the layers have at its last token is mixed. The head gives it a
    score; the softmax over a question's choices is learned.

    Args:
        bundle: the model; it stays as it is.
        tasks: names of ``come.evaluate.tasks.OFFLINE`` or ``GROUPS``, or paths of .jsonl files.
        limit: only the first so many questions of each task.
        seed: draws which questions are held out, 3 of 10; models of the same questions have the same.
        batch_size: choices at a time.
        on_progress: told of each batch.
        message: what to say there, before the task's name.

    Raises:
        ComeError: a task is unknown, on the hub or malformed, has fewer than 20 questions, or the model's values are
            not finite.
    """
    sets = questions_to_probe(tasks, limit)
    found = {}
    for index, (name, questions) in enumerate(sets.items()):

        def tell(read: float, before: int = index, task: str = Path(name).name) -> None:  # to learn takes about a fifth
            emit(on_progress, "probe", int(100 * before + 80 * read), 100 * len(sets), f"{message}: {task}")

        found[Path(name).name] = learn(read_choices(bundle, questions, batch_size, tell), seed)
    emit(on_progress, "probe", 100 * len(sets), 100 * len(sets), message)
    return found


@torch.inference_mode()
def read_choices(
    bundle: Bundle,
    questions: Sequence[Question],
    batch_size: int | None = None,
    tell: Callable[[float], None] = lambda _: None,
) -> Choices:
    """The states that a model has at the last token of each choice; what is equally long runs together, unpadded.

    Raises:
        ComeError: they are not finite.
    """
    runner = LayerRunner(bundle)
    longest = getattr(bundle.model.config, "max_position_embeddings", None) or None
    ids = [
        bundle.tokenizer(f"{question.question} {choice}", verbose=False)["input_ids"][-longest if longest else None :]
        for question in questions
        for choice in question.choices
    ]
    by_length: dict[int, list[int]] = {}
    for place, each in enumerate(ids):
        by_length.setdefault(len(each), []).append(place)
    states = torch.empty(len(ids), len(runner) + 1, bundle.shape.hidden_size)
    done = 0
    for places in by_length.values():
        tokens = torch.tensor([ids[place] for place in places])
        for batch in batches(tokens, batch_size):
            here = torch.tensor(places[: len(batch.tokens)])
            del places[: len(batch.tokens)]
            for border, hidden in each_border(runner, batch):
                last = runner.norm(hidden) if border == len(runner) else hidden
                states[here, border] = nn.functional.layer_norm(last[:, -1].float(), last.shape[-1:]).cpu()
            done += len(here)
            tell(done / len(ids))
    check_finite(states, runner)
    most = max(len(question.choices) for question in questions)
    places_of, at = torch.full((len(questions), most), -1), 0
    for number, question in enumerate(questions):
        places_of[number, : len(question.choices)] = torch.arange(at, at + len(question.choices))
        at += len(question.choices)
    return Choices(states, places_of, torch.tensor([question.answer for question in questions]))


def split(questions: int, seed: int) -> tuple[Tensor, Tensor]:
    """Which questions are learned from and which are held out, int64 each, both in the order that the seed draws."""
    order = torch.randperm(questions, generator=torch.Generator().manual_seed(seed))
    held_out = round(HELD_OUT * questions)
    return order[held_out:], order[:held_out]


def learn(choices: Choices, seed: int = 0) -> Probe:
    """The probe of a task: the mix, and beside it a head on the last states alone, both learned and judged alike."""
    train, held_out = split(len(choices.answers), seed)
    learned, judged = choices.of(train), choices.of(held_out)
    mixed = fit_chosen(learned)
    hits = _hits(mixed, judged)
    last_hits = _hits(fit_chosen(_last(learned)), _last(judged))
    gain = hits - last_hits
    return Probe(
        weights=tuple(mixed.mix.softmax(0).tolist()),
        gamma=float(mixed.head.norm()),
        accuracy=float(hits.mean()),
        stderr=mean_stderr(hits),
        last_accuracy=float(last_hits.mean()),
        last_stderr=mean_stderr(last_hits),
        gain=float(gain.mean()),
        gain_stderr=mean_stderr(gain),
        chance=float((1 / (judged.places >= 0).sum(1)).mean()),
        train=len(train),
        held_out=len(held_out),
        hits=tuple(map(int, hits.tolist())),
        last_hits=tuple(map(int, last_hits.tolist())),
    )


def fit_chosen(choices: Choices) -> _Learned:
    """A mix and a head, with the penalty that does best on a quarter of the questions when learned on the others."""
    apart = torch.arange(len(choices.answers)) % 4 == 0
    numbers = torch.arange(len(choices.answers))
    learned, judged = choices.of(numbers[~apart]), choices.of(numbers[apart])
    losses = [float(_loss(fit(learned, penalty), judged)) for penalty in HEAD_PENALTIES]
    return fit(choices, HEAD_PENALTIES[losses.index(min(losses))])


def fit(choices: Choices, penalty: float) -> _Learned:
    """The mix and the head of least mean cross-entropy over questions, with ``penalty`` times γ².

    L-BFGS over all questions, from an even mix and a head of zeros: nothing is drawn.
    """
    layers, hidden_size = choices.states.shape[1:]
    learned = _Learned(torch.zeros(hidden_size, requires_grad=True), torch.zeros(layers, requires_grad=True))
    optimizer = torch.optim.LBFGS([learned.head, learned.mix], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Any:
        optimizer.zero_grad()
        loss = _loss(learned, choices)
        loss = loss + penalty * learned.head.square().sum() + MIX_PENALTY * learned.mix.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return _Learned(learned.head.detach(), learned.mix.detach())


def scores(learned: _Learned, choices: Choices) -> Tensor:
    """The score of each choice, (questions, most choices), −∞ where there is none."""
    # The head first: it leaves one number a layer, and the mix is linear.
    each = choices.states @ learned.head @ learned.mix.softmax(0)
    return each[choices.places].masked_fill(choices.places < 0, -torch.inf)


def _loss(learned: _Learned, choices: Choices) -> Tensor:
    return nn.functional.cross_entropy(scores(learned, choices), choices.answers)


def _hits(learned: _Learned, choices: Choices) -> Tensor:
    return (scores(learned, choices).argmax(1) == choices.answers).double()


def _last(choices: Choices) -> Choices:
    return Choices(choices.states[:, -1:], choices.places, choices.answers)


def not_probed(tasks: str | Sequence[str], limit: int | None = None) -> dict[str, str]:
    """Those of some tasks (named as for ``probe``) that cannot be probed, each with the reason.

    Raises:
        ComeError: a task is unknown or malformed.
    """
    reasons = {name: _why_not(questions_at_hand(name), limit) for name in check_tasks(tasks)}
    return {name: why for name, why in reasons.items() if why}


def _why_not(questions: list[Question] | None, limit: int | None) -> str:
    """Why a set of questions cannot be probed; "" where it can."""
    if questions is None:
        return "its questions are lm-eval's own"
    count = len(questions[:limit])
    return f"{count} questions are fewer than {FEWEST}" if count < FEWEST else ""


def questions_to_probe(tasks: str | Sequence[str], limit: int | None = None) -> dict[str, list[Question]]:
    """The questions of each task; no model is needed to tell that one cannot be probed.

    Raises:
        ComeError: a task is unknown, on the hub or malformed, or has fewer than 20 questions.
    """
    return {name: _questions(name, limit) for name in check_tasks(tasks)}


def _questions(name: str, limit: int | None) -> list[Question]:
    questions = questions_at_hand(name)
    if questions is None:
        raise ComeError(
            f"The questions of {name} are lm-eval's own, and a probe is learned on sets of questions with choices.",
            "Name bundled, mmlu_dev, or .jsonl files of your own.",
        )
    questions = questions[:limit]
    if len(questions) < FEWEST:
        raise ComeError(
            f"{name} has {len(questions)} questions to probe with, of which most would be learned from.",
            f"Give {FEWEST} or more.",
        )
    return questions
