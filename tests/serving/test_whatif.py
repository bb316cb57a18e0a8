"""What-if's answer is a full evaluation's, bit for bit; only what changed is run, and a newer question ends it."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import come
from come.errors import ComeError
from come.evaluate import measure_divergence, reference
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.serving.cancellation import Cancelled
from come.serving.limits import Limits
from come.serving.whatif.answer import Answer, change
from come.serving.whatif.question import Merge, Question
from come.serving.whatif.suggest import suggest
from come.serving.whatif.whatif import WhatIf, what_if
from come.transforms.compatible import mixable
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

LAYERS = 6
TEXT = tiny_tokens(7, 18, seed=3)
EDITS = Question(merges=(Merge(first=1, last=2), Merge(first=4, last=5, ratio=(0.25, 0.75))), dropped=(3,))


@lru_cache(maxsize=64)
def engine(family: str = "llama", dtype: torch.dtype = torch.float32) -> WhatIf:
    bundle = tiny_bundle(family)
    bundle.model.to(dtype)
    return what_if(bundle, TEXT, come.measure(bundle, tiny_tokens(6, 16)))


def evaluated(edited: Bundle, original: Bundle) -> dict[str, float]:
    """The figures of the whole edited model."""
    text, divergence = measure_divergence(edited, reference(original, TEXT))
    return text.metrics() | divergence.metrics()


def figures(answer: Answer) -> dict[str, float]:
    names = ("perplexity", "perplexity_stderr", "bits_per_byte", "bits_per_byte_stderr", "kl", "kl_stderr")
    return {name: getattr(answer, name) for name in names}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", CASES)
def test_the_answer_is_that_of_a_full_evaluation_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    whatif = engine(family, dtype)
    before = weights_hash(whatif.bundle.model)
    how = "concatenate" if family == "gemma2" else "average"  # whose layers are of two kinds in turn
    for asked in (EDITS, Question(merges=(Merge(first=3, last=5, how=how),), dropped=(0,)), Question()):
        answer = whatif.answer(asked)
        rebuilt = replay(whatif.bundle, Plan.parse(whatif.plan(asked).model_dump_json()))
        assert figures(answer) == evaluated(rebuilt, whatif.bundle)
        assert (answer.layers, answer.parameters, answer.bytes) == (
            len(rebuilt.layers),
            rebuilt.parameters,
            rebuilt.bytes,
        )
    assert weights_hash(whatif.bundle.model) == before


@st.composite
def questions(draw: st.DrawFn, family: str) -> Question:
    config = engine(family).bundle.model.config
    merges, dropped, at = [], [], 0
    while at < LAYERS:
        size = draw(st.integers(1, min(4, LAYERS - at)))
        if size > 1:
            how = draw(st.sampled_from(["concatenate", "average"]))
            share = draw(st.one_of(st.none(), st.integers(0, 8)))
            ratio = None if share is None else (share / 8, *([(1 - share / 8) / (size - 1)] * (size - 1)))
            if mixable(config, at, at + size - 1) is None:
                merges.append(Merge(first=at, last=at + size - 1, ratio=ratio, how=how))
        elif draw(st.booleans()) and len(dropped) < 3:
            dropped.append(at)
        at += size
    return Question(merges=tuple(merges), dropped=tuple(dropped), exponent=draw(st.sampled_from([0.5, 1.0, 2.0])))


@settings(max_examples=30, deadline=None)
@given(data=st.data(), family=st.sampled_from(["llama", "gpt2", "gemma3_text", "opt"]))
def test_any_edits_come_to_what_their_plan_rebuilds(data: st.DataObject, family: str) -> None:
    whatif = engine(family)
    asked = data.draw(questions(family))
    answer = whatif.answer(asked)
    rebuilt = replay(whatif.bundle, whatif.plan(asked))
    assert figures(answer) == evaluated(rebuilt, whatif.bundle)
    assert answer.layers == len(rebuilt.layers) and answer.parameters == rebuilt.parameters


def test_windows_by_hand_are_those_of_a_run() -> None:
    whatif = engine()
    windows, ratios = [(1, 2), (4, 5)], [None, [0.25, 0.75]]
    run = come.compress(whatif.bundle, tiny_tokens(6, 16), windows=windows, ratios=ratios)
    asked = Question(merges=EDITS.merges)
    assert whatif.plan(asked).steps == run.plan.steps
    assert figures(whatif.answer(asked)) == evaluated(run.bundle, whatif.bundle)
    assert figures(whatif.answer(run.plan)) == evaluated(run.bundle, whatif.bundle)


@pytest.mark.parametrize("family", CASES)
def test_a_fitted_window_is_answered_as_its_plan_rebuilds(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    whatif = what_if(bundle, TEXT, calibration=tiny_tokens(8, 32))
    last = 2 if family.startswith(("gemma3", "smollm3")) else 3  # whose upper half is of another kind
    asked = Question(merges=(Merge(first=1, last=last, how="fit"),), dropped=(0,))
    answer = whatif.answer(asked)
    whatif.plan(asked).write(tmp_path / "plan.json")
    rebuilt = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert figures(answer) == evaluated(rebuilt, bundle)
    assert answer.layers == len(rebuilt.layers)


@pytest.mark.parametrize("dropped", [(), (0, 7)])
def test_fitted_windows_are_those_of_a_run(dropped: tuple[int, ...]) -> None:
    bundle, tokens = tiny_bundle(layers=8), tiny_tokens(8, 32)
    windows = [(1, 3), (5, 6)]
    run = come.compress(bundle, tokens, "come-joint", windows=windows, drop=list(dropped))
    whatif = what_if(bundle, TEXT, calibration=tokens)
    asked = Question(merges=tuple(Merge(first=a, last=b, how="fit") for a, b in windows), dropped=dropped)
    assert weights_hash(whatif.build(asked).model) == weights_hash(run.bundle.model)
    assert weights_hash(replay(bundle, whatif.plan(asked)).model) == weights_hash(run.bundle.model)
    assert figures(whatif.answer(asked)) == evaluated(run.bundle, bundle)


def test_a_fitted_window_needs_tokens_and_can_be_given_up() -> None:
    asked = Question(merges=(Merge(first=1, last=3, how="fit"),))
    with pytest.raises(ComeError, match="no text to fit"):
        engine().answer(asked)
    told = iter([False] * 4 + [True] * 100)
    with pytest.raises(Cancelled):
        what_if(tiny_bundle(), TEXT, calibration=tiny_tokens(8, 32)).answer(asked, lambda: next(told))


@pytest.mark.parametrize("dropped", [(3,), (0, 3)])
def test_windows_and_dropped_layers_are_those_of_a_run(dropped: tuple[int, ...]) -> None:
    whatif = engine()
    windows, ratios = [(1, 2), (4, 5)], [None, [0.25, 0.75]]
    run = come.compress(whatif.bundle, tiny_tokens(6, 16), windows=windows, ratios=ratios, drop=list(dropped))
    asked = Question(merges=EDITS.merges, dropped=dropped)
    assert whatif.plan(asked).steps == run.plan.steps
    answer = whatif.answer(asked)
    assert figures(answer) == evaluated(run.bundle, whatif.bundle)
    assert (answer.layers, answer.parameters) == (6 - 2 - len(dropped), run.bundle.parameters)
    assert figures(answer) != figures(whatif.answer(Question(merges=EDITS.merges)))


def test_a_plan_of_any_steps_is_answered() -> None:
    whatif = engine("qwen3")
    result = come.compress(whatif.bundle, tiny_tokens(6, 16), target_layers=3)
    name = "model.layers.1.mlp.down_proj.weight"
    plan = result.plan.with_tensors({name: torch.full((32, 48), 0.01)})
    for each in (result.plan, plan):
        assert figures(whatif.answer(each)) == evaluated(replay(whatif.bundle, each), whatif.bundle)
    assert whatif.answer(plan).perplexity != whatif.answer(result.plan).perplexity
    embeddings = plan.with_tensors({"model.embed_tokens.weight": torch.full((128, 32), 0.01)})
    assert figures(whatif.answer(embeddings)) == evaluated(replay(whatif.bundle, embeddings), whatif.bundle)
    assert whatif.answer(embeddings).start == 0


def test_small_budgets_change_nothing_but_the_time() -> None:
    whatif = engine()
    small = Limits(layer_bytes=1, border_bytes=0, chance_bytes=0)
    poor = what_if(whatif.bundle, TEXT, whatif.measurement, limits=small)
    assert figures(poor.answer(EDITS)) == figures(whatif.answer(EDITS))


def test_only_layers_from_the_lowest_change_on_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    whatif = engine("mistral")
    run: list[int] = []
    real = LayerRunner.run

    def noted(self: LayerRunner, layer: int, *args: object) -> object:
        run.append(layer)
        return real(self, layer, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(LayerRunner, "run", noted)
    answer = whatif.answer(Question(merges=(Merge(first=3, last=4),)))
    assert (answer.start, run) == (3, [3, 4])  # the merged layer and the one above it, in one batch
    run.clear()
    again = whatif.answer(Question(merges=(Merge(first=3, last=4),)))
    assert (again.cached, run) == (True, [])
    assert figures(again) == figures(answer)
    whatif.answer(Question(dropped=(5,)))
    assert run == []  # the head alone
    whole = whatif.answer(Question(merges=(Merge(first=4, last=5, ratio=(1.0, 0.0)),)))
    assert (whole.start, run) == (5, [])  # all of one layer is that layer


def test_merged_layers_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    import come.serving.whatif.build as build

    whatif = engine("qwen2")
    made: list[tuple[int, int]] = []
    real = build.concatenate
    monkeypatch.setattr(build, "concatenate", lambda bundle, step: (made.append(step.window), real(bundle, step))[1])
    whatif.answer(Question(merges=(Merge(first=0, last=1),)))
    whatif.answer(Question(merges=(Merge(first=0, last=1), Merge(first=3, last=4))))
    whatif.answer(Question(merges=(Merge(first=0, last=1),), dropped=(5,)))
    assert made == [(0, 1), (3, 4)]


def test_a_newer_question_ends_it() -> None:
    whatif = engine("olmo2")
    looks = iter([False, False, True])
    with pytest.raises(Cancelled):
        whatif.answer(Question(dropped=(1,)), lambda: next(looks))
    assert not whatif.answer(Question(dropped=(1,))).cached


def test_halves_and_changes_are_told() -> None:
    whatif = engine()
    original, edited = whatif.answer(Question()), whatif.answer(EDITS)
    assert original.kl == 0 and original.speed_up == 1
    losses = edited.losses
    assert edited.perplexity_halves[0] == pytest.approx(math.exp(sum(losses[:3]) / 3))
    assert edited.perplexity_halves[1] == pytest.approx(math.exp(sum(losses[3:]) / 4))
    difference = change(original, edited)
    assert difference.ratio == pytest.approx(edited.perplexity / original.perplexity, rel=1e-5)
    assert difference.loss == pytest.approx(sum(difference.halves[i] * (3, 4)[i] for i in (0, 1)) / 7)
    assert difference.stable == (difference.halves[0] * difference.halves[1] > 0)
    assert edited.speed_up > 1


def test_one_sequence_has_neither_errors_nor_halves() -> None:
    whatif = what_if(tiny_bundle(), TEXT[:1])
    answer = whatif.answer(Question(dropped=(2,)))
    assert all(map(math.isnan, (answer.perplexity_stderr, answer.kl_stderr, *answer.perplexity_halves)))


def test_the_best_free_window_is_suggested_with_its_cost() -> None:
    whatif = engine()
    values = whatif.measured().skip_influence.tolist()
    best = min(range(5), key=values.__getitem__)
    (found,) = suggest(whatif, Question())
    assert (found.first, found.last, found.free) == (best, best + 1, 5)
    assert found.skip_influence == values[best]
    for half, rank in zip(whatif.measured().skip_influence_halves.tolist(), found.ranks, strict=True):
        assert sorted(half)[rank - 1] == half[best]
    taken = Question(merges=(Merge(first=best, last=best + 1),))
    assert figures(found.answer) == figures(whatif.answer(taken))
    for other in suggest(whatif, taken, count=5):
        assert not {other.first, other.last} & {best, best + 1}
    with pytest.raises(ComeError, match="untouched"):
        suggest(whatif, Question(merges=(Merge(first=0, last=4),)))


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (Question(merges=(Merge(first=4, last=6),)), "does not fit"),
        (Question(merges=(Merge(first=1, last=2), Merge(first=2, last=3))), "overlap"),
        (Question(merges=(Merge(first=1, last=2, ratio=(0.5, 0.6)),)), "sum to 1"),
        (Question(merges=(Merge(first=1, last=2, ratio=(1.0,), how="average"),)), "shares"),
        (Question(merges=(Merge(first=1, last=2),), dropped=(2,)), "at once"),
        (Question(dropped=(6,)), "no layer 6"),
        (Question(dropped=tuple(range(6))), "No layer"),
    ],
)
def test_impossible_edits_are_refused(question: Question, words: str) -> None:
    with pytest.raises(ComeError, match=words):
        engine().answer(question)
    with pytest.raises(ComeError, match=words):
        engine().plan(question)


def test_layers_that_do_not_mix_and_plans_of_others_are_refused() -> None:
    with pytest.raises(ComeError, match="cannot be merged"):
        engine("smollm3").answer(Question(merges=(Merge(first=2, last=3),)))
    with pytest.raises(ComeError, match="not measured"):
        what_if(tiny_bundle(), TEXT).answer(Question(merges=(Merge(first=2, last=3),)))
    with pytest.raises(ComeError, match="not those"):
        engine("gpt2").answer(engine().plan(EDITS))
    with pytest.raises(ComeError, match="another model"):
        what_if(tiny_bundle(layers=4), TEXT, engine().measured()).answer(Question(merges=EDITS.merges[:1]))


def test_an_answer_tells_how_far_it_is() -> None:
    whatif, told = what_if(tiny_bundle(), TEXT, calibration=tiny_tokens(6, 16)), []
    fitted = Question(merges=(Merge(first=1, last=2, how="fit"),))
    whatif.answer(fitted, on_progress=told.append)
    first, *rest = told
    assert (first.stage, first.message) == ("fit", "Fitting layers 1–2")
    shares = [event.step / event.of for event in rest]
    assert {event.stage for event in rest} == {"predict"} and shares == sorted(set(shares)) and shares[-1] < 1
    told.clear()
    whatif.answer(fitted, on_progress=told.append)
    assert not told, "it is known"
