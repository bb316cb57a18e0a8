"""No metric is silently missing: every way to judge a model says which layer gives no numbers, and what to do."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.evaluate import Accuracy, measure_divergence, perplexity_of_reference, reference
from come.evaluate.perplexity import from_losses, perplexity_of
from come.models import Bundle
from come.numbers import LARGEST_PERPLEXITY, perplexity_text
from come.report.metrics import factor, number
from come.serving.playground.along import along
from come.serving.playground.playground import generate
from come.serving.playground.speech import Sampling
from come.serving.whatif.question import Question
from come.serving.whatif.whatif import what_if
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(4, 16)


def overflowing() -> tuple[Bundle, str]:
    """Finite weights, values that overflow float16 in layer 3."""
    bundle = tiny_bundle()
    bundle.layers[3].mlp.down_proj.weight.data.mul_(1e6).clamp_(-6e4, 6e4)  # type: ignore[union-attr, operator]
    bundle.model.half()
    return bundle, r"In layer 3 \(the first is 0\) the model's values overflow in float16\. Use bfloat16 or float32\."


def damaged() -> tuple[Bundle, str]:
    """One weight that is no number, as of a damaged file."""
    bundle = tiny_bundle("gpt2")
    bundle.model.transformer.h[2].mlp.c_proj.weight.data[0, 0] = torch.nan
    return bundle, r"weights are not numbers, first of all in transformer\.h\.2\.mlp\.c_proj\.weight\. Fetch"


def without_a_head() -> tuple[Bundle, str]:
    """A head that gives no numbers, above layers that do."""
    bundle = tiny_bundle("opt", tie_word_embeddings=False)
    bundle.model.lm_head.weight.data[5] = torch.inf
    return bundle, r"first of all in lm_head\.weight, overflow in float32"


def asked(bundle: Bundle, questions: Path) -> dict[str, Callable[[], Any]]:
    sound = tiny_bundle(bundle.family.name, tie_word_embeddings=False)
    return {
        "perplexity": lambda: come.perplexity(bundle, TOKENS),
        "divergence": lambda: come.kl_divergence(bundle, sound, TOKENS),
        "divergence from it": lambda: measure_divergence(sound, reference(bundle, TOKENS)),
        "its own, by its reference": lambda: perplexity_of_reference(reference(bundle, TOKENS)),
        "accuracy": lambda: come.accuracy(bundle, [str(questions)]),
        "what-if": lambda: what_if(bundle, TOKENS).answer(Question()),
        "playground": lambda: list(generate({"original": bundle}, "abc", Sampling(new_tokens=2), chat=False)),
        "along": lambda: along({"original": bundle}, [5, 6, 7]),
        "text": lambda: come.tokens(bundle, "self", 32, 16),
    }


@pytest.fixture
def questions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    path = tmp_path / "mine.jsonl"
    rows = [{"question": f"{n} is", "choices": ["odd", "even"], "answer": 0} for n in "13579"]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


@pytest.mark.parametrize("what", sorted(asked(tiny_bundle(), Path())))
@pytest.mark.parametrize("model", [overflowing, damaged, without_a_head])
def test_what_is_no_number_is_refused(model: Callable[[], tuple[Bundle, str]], what: str, questions: Path) -> None:
    bundle, words = model()
    with pytest.raises(ComeError, match=words):
        asked(bundle, questions)[what]()


def test_a_text_that_is_generated_for_a_task_is_refused_too() -> None:
    from come.evaluate.accuracy import _language_model, _numbers_only

    for model in (overflowing, damaged):
        bundle, words = model()
        lm = _language_model(bundle, 2)
        with pytest.raises(ComeError, match=words), _numbers_only(bundle, lm.model):
            lm._model_generate(torch.tensor([[5, 6, 7]]), max_length=6, stop=["z"])
        assert not lm.model._forward_hooks


def test_an_edited_model_that_overflows_is_told_of_by_its_own_layer() -> None:
    bundle = tiny_bundle()
    for layer in (2, 3):  # each stands its share of the way to the largest float16; both do not
        bundle.layers[layer].mlp.down_proj.weight.data.zero_().add_(1.0)  # type: ignore[union-attr, operator]
    bundle.model.half()
    answers = what_if(bundle, TOKENS)
    assert math.isfinite(answers.answer(Question()).perplexity)
    edited = answers.build(Question(dropped=(5,)))
    edited.layers[2].mlp.down_proj.weight = torch.nn.Parameter(torch.full((32, 48), 6e4).half())  # type: ignore[union-attr]
    answers.build = lambda *_: edited  # type: ignore[method-assign]
    with pytest.raises(ComeError, match="layer 2"):
        answers.answer(Question(dropped=(5,)))


def test_of_a_task_only_an_error_may_be_missing() -> None:
    told = {"acc": 0.5, "acc_stderr": math.nan, "exact_match_stderr,strict": math.nan, "word_perplexity": math.inf}
    assert Accuracy(told).to_results() == {"acc": 0.5, "word_perplexity": LARGEST_PERPLEXITY}
    for metric in ("acc", "bleu", "exact_match,strict"):
        with pytest.raises(ComeError, match=f"The metric {metric} came out as no number"):
            Accuracy({metric: math.nan}).to_results()


@pytest.mark.parametrize("loss", [69.1, 1e3, 1e30])
def test_a_perplexity_too_large_to_hold_is_told_as_such(loss: float) -> None:
    found = from_losses(torch.tensor([loss, loss]), tiny_tokens(2, 5), tiny_bundle().tokenizer)
    metrics = found.metrics()
    assert metrics["perplexity"] == found.value == LARGEST_PERPLEXITY and "perplexity_stderr" not in metrics
    assert metrics["bits_per_byte"] == pytest.approx(loss / math.log(2) / 2), "which tells how far it is lost"
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert perplexity_text(found.value) == "> 1e30" and number(found.value) == "> 10³⁰"


def test_perplexities_below_that_are_what_they_are() -> None:
    assert perplexity_of(69.0) == math.exp(69.0) < LARGEST_PERPLEXITY
    assert math.isnan(perplexity_of(math.nan)), "of a half that has no sequence"
    assert [perplexity_text(59.618, spec) for spec in (",.2f", ".3f")] == ["59.62", "59.618"]
    assert [number(value) for value in (59.618, 12345.0, 9.9e29)] == ["59.6", "12,345", "9.9 × 10²⁹"]
    assert [factor(ratio) for ratio in (1.234, 5476.3, 2.5e28)] == ["1.23", "5,476", "2.5 × 10²⁸"]


def lost(bundle: Bundle) -> Bundle:
    """A model that is sure of the wrong token: its loss is thousands of nats, and all its values are finite."""
    bundle.model.lm_head.weight.data *= 1e5
    return bundle


def test_a_model_that_is_lost_has_numbers_everywhere() -> None:
    bundle = lost(tiny_bundle(tie_word_embeddings=False))
    assert come.perplexity(bundle, TOKENS) == LARGEST_PERPLEXITY
    answer = what_if(bundle, TOKENS).answer(Question())
    assert answer.perplexity == LARGEST_PERPLEXITY and answer.perplexity_halves == (LARGEST_PERPLEXITY,) * 2
    assert all(map(math.isfinite, (answer.bits_per_byte, answer.kl, *answer.losses)))


def every_batch(seen: list[int]) -> Callable[[Any], None]:
    return lambda event: seen.append(event.step)


def test_it_is_told_after_the_first_batch_that_shows_it() -> None:
    bundle, words = overflowing()
    seen: list[int] = []
    with pytest.raises(ComeError, match=words):
        come.perplexity(bundle, TOKENS, batch_size=1, on_progress=every_batch(seen))
    assert max(seen) == len(bundle.layers), "the layers of one batch of four"
