"""The mix of layers' states, held against Transformers' own states and against scipy's minimum of the same loss."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from come.errors import ComeError
from come.evaluate.probe import Choices, Probe, fit, learn, probe, read_choices, scores, split
from come.evaluate.tasks.questions import Question
from tests.tiny import CASES, tiny_bundle


def some_questions(count: int = 24) -> list[Question]:
    words = ["odd", "even", "neither"]
    return [
        Question(question=f"{number} is", choices=words[: 2 + number % 2], answer=number % 2) for number in range(count)
    ]


def some_choices(questions: int, layers: int, width: int, telling: int | None = None, seed: int = 0) -> Choices:
    """Random states of 2 or 3 choices a question; those of one layer tell by their first channel which is right."""
    generator = torch.Generator().manual_seed(seed)
    counts = [2 + number % 2 for number in range(questions)]
    places, at = torch.full((questions, 3), -1), 0
    answers = torch.tensor([number % count for number, count in enumerate(counts)])
    states = torch.randn(sum(counts), layers, width, generator=generator)
    for number, count in enumerate(counts):
        places[number, :count] = torch.arange(at, at + count)
        if telling is not None:
            states[at : at + count, telling, 0] = -2.0
            states[at + answers[number], telling, 0] = 2.0
        at += count
    return Choices(states, places, answers)


@pytest.mark.parametrize("family", CASES)
def test_the_states_are_those_of_each_text_alone(family: str) -> None:
    bundle, questions = tiny_bundle(family, layers=3), some_questions(6)
    choices = read_choices(bundle, questions, batch_size=4)
    texts = [f"{question.question} {choice}" for question in questions for choice in question.choices]
    for place, text in enumerate(texts):
        ids = torch.tensor([bundle.tokenizer(text)["input_ids"]])
        with torch.inference_mode():
            states = bundle.model(ids, output_hidden_states=True).hidden_states
        assert len(states) == 4
        for layer, state in enumerate(states):  # the last is after the final norm, there as here
            last = state[0, -1].double().numpy()
            normed = (last - last.mean()) / np.sqrt(last.var() + 1e-5)
            np.testing.assert_allclose(choices.states[place, layer].numpy(), normed, rtol=1e-3, atol=1e-4)
    assert choices.places[:3].tolist() == [[0, 1, -1], [2, 3, 4], [5, 6, -1]]
    assert choices.answers[:3].tolist() == [0, 1, 0]


@pytest.mark.parametrize("penalty", [0.01, 1.0])
def test_what_is_learned_is_the_minimum(penalty: float) -> None:
    choices = some_choices(30, layers=4, width=6, telling=2)
    states = choices.states.double().numpy()

    def loss(numbers: np.ndarray) -> float:
        head, mix = numbers[:6], numbers[6:]
        gamma = np.sqrt((head**2).sum())
        total = 0.0
        for places, answer in zip(choices.places.tolist(), choices.answers.tolist(), strict=True):
            mixed = [gamma * (softmax(mix)[:, None] * states[place]).sum(0) for place in places if place >= 0]
            total -= log_softmax(np.array(mixed) @ (head / gamma))[answer]
        return total / 30 + penalty * gamma**2 + 1e-3 * (mix**2).sum()

    found = fit(choices, penalty)
    ours = np.concatenate([found.head.numpy(), found.mix.numpy()]).astype(float)
    best = minimize(loss, np.concatenate([np.full(6, 0.01), np.zeros(4)]), method="L-BFGS-B")
    assert loss(ours) == pytest.approx(best.fun, rel=1e-3)
    np.testing.assert_allclose(softmax(ours[6:]), softmax(best.x[6:]), atol=0.02)
    assert int(softmax(ours[6:]).argmax()) == 2, "the layer that tells"


@pytest.mark.parametrize("telling", [0, 3, 5])
def test_it_finds_the_layer_that_tells(telling: int) -> None:
    found = learn(some_choices(120, layers=6, width=12, telling=telling))
    assert max(range(6), key=found.weights.__getitem__) == telling and found.weights[telling] > 0.5
    assert sum(found.weights) == pytest.approx(1, abs=1e-5)
    assert found.accuracy > 0.9
    assert (found.last_accuracy > 0.9) == (telling == 5)
    assert found.gain == pytest.approx(found.accuracy - found.last_accuracy)
    assert abs(found.depth - telling / 5) < 0.25


def test_random_states_are_at_chance() -> None:
    found = learn(some_choices(400, layers=3, width=8))
    assert found.chance == pytest.approx((1 / 2 + 1 / 3) / 2, abs=0.05)
    assert abs(found.accuracy - found.chance) < 3.5 * found.stderr
    share = found.accuracy
    assert found.stderr == pytest.approx((share * (1 - share) / (found.held_out - 1)) ** 0.5)


def test_nothing_is_learned_from_what_is_held_out() -> None:
    choices = some_choices(60, layers=3, width=5, telling=1)
    train, held_out = split(60, seed=4)
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(60)) and len(held_out) == 18
    honest = learn(choices, seed=4)
    answers = choices.answers.clone()
    answers[held_out] = 1 - answers[held_out].clamp(max=1)
    other = learn(replace(choices, answers=answers), seed=4)
    assert other.weights == honest.weights and other.gamma == honest.gamma
    assert other.accuracy < honest.accuracy
    assert learn(choices, seed=4) == honest != learn(choices, seed=5)


def test_choices_that_are_not_there_are_never_taken() -> None:
    choices = some_choices(10, layers=2, width=4)
    found = scores(fit(choices, 0.1), choices)
    assert bool(found[choices.places < 0].isneginf().all()) and bool(found[choices.places >= 0].isfinite().all())
    some = choices.of(torch.tensor([7, 2]))
    assert torch.equal(some.states[some.places[0, :3]], choices.states[choices.places[7, :3]])
    assert torch.equal(some.states[some.places[1, :2]], choices.states[choices.places[2, :2]])


def test_a_model_on_questions_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mine.jsonl"
    file.write_text("\n".join(json.dumps(question.model_dump()) for question in some_questions(40)))
    bundle = tiny_bundle(layers=3)
    before = bundle.fingerprint
    found = probe(bundle, [str(file)])
    assert found.keys() == {"mine.jsonl"} and isinstance(found["mine.jsonl"], Probe)
    one = found["mine.jsonl"]
    assert (len(one.weights), one.train, one.held_out) == (4, 28, 12)
    assert probe(bundle, [str(file)], 20)["mine.jsonl"].held_out == 6
    alone = probe(bundle, [str(file)], batch_size=1)["mine.jsonl"]
    assert alone.weights == pytest.approx(one.weights, abs=1e-3)
    assert type(bundle)(bundle.model, bundle.tokenizer, bundle.family, "").fingerprint == before
    with pytest.raises(ComeError, match="19 questions to probe with"):
        probe(bundle, [str(file)], 19)
    monkeypatch.setattr(sys.modules[fit.__module__], "check_tasks", lambda names: [names])
    with pytest.raises(ComeError, match="lm-eval's own"):
        probe(bundle, "arc_easy")


def test_overflowing_models_are_refused() -> None:
    bundle = tiny_bundle(layers=3)
    bundle.layers[1].mlp.down_proj.weight.data.fill_(torch.inf)
    with pytest.raises(ComeError, match=r"layers\.1"):
        read_choices(bundle, some_questions(4))
