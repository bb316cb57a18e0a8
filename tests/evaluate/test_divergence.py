from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.evaluate import measure_divergence, measure_perplexity, perplexity_of_reference, reference
from come.measurement.divergence import compare
from come.models.bundle import weights_hash
from come.training.layer_job import threads
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(5, 20)


@pytest.mark.parametrize("family", CASES)
def test_it_is_the_mean_over_predicted_tokens_of_the_sum_over_the_vocabulary(family: str) -> None:
    original, pruned = tiny_bundle(family), tiny_bundle(family, layers=4, seed=1)
    with torch.inference_mode():
        p, q = (bundle.model(TOKENS).logits[:, :-1].double().softmax(-1) for bundle in (original, pruned))
    by_token = (p * (p / q).log()).sum(-1)
    assert come.kl_divergence(pruned, original, TOKENS, batch_size=2) == pytest.approx(float(by_token.mean()), rel=1e-4)
    found = measure_divergence(pruned, reference(original, TOKENS))[1]
    assert found.stderr == pytest.approx(float(by_token.mean(1).std()) / 5**0.5, rel=1e-3)
    assert found.tokens == 5 * 19


def test_a_model_does_not_diverge_from_itself_and_is_left_as_it_was() -> None:
    bundle = tiny_bundle("qwen3")
    before = weights_hash(bundle.model)
    assert come.kl_divergence(bundle, bundle, TOKENS) == 0
    assert weights_hash(bundle.model) == before


def test_one_walk_gives_the_perplexities_too() -> None:
    original, pruned = tiny_bundle(), tiny_bundle(layers=4, seed=1)
    known = reference(original, TOKENS, batch_size=2)
    assert perplexity_of_reference(known) == measure_perplexity(original, TOKENS, batch_size=2)
    ours, theirs = measure_divergence(pruned, known)[0], measure_perplexity(pruned, TOKENS, batch_size=2)
    assert ours.metrics() == pytest.approx(theirs.metrics(), rel=1e-5)


def test_the_head_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    original, pruned = tiny_bundle(), tiny_bundle(layers=4, seed=1)
    whole = come.kl_divergence(pruned, original, TOKENS)
    monkeypatch.setattr(sys.modules["come.measurement.divergence"], "HEAD_POSITIONS", 7)
    assert come.kl_divergence(pruned, original, TOKENS) == pytest.approx(whole, rel=1e-6)


@pytest.mark.parametrize("count", [1, 4, 5, 9, 14])
def test_few_tokens_at_a_time_come_to_the_bits_of_all_at_once(count: int) -> None:
    drawn = torch.Generator().manual_seed(count)
    logits, theirs = torch.randn(2, count, 49_152, generator=drawn)  # so many that threads share the sum of a lone row
    theirs = theirs.log_softmax(-1)
    tokens = torch.randint(49_152, (count, 2), generator=drawn)
    head: Any = SimpleNamespace(logits=lambda states: states)
    with torch.inference_mode(), threads(2):
        losses, divergences = compare(head, logits[:, None].expand(-1, 2, -1), tokens, [theirs])
        ours = logits.log_softmax(-1)
        whole = torch.nn.functional.kl_div(ours, theirs, reduction="none", log_target=True).sum(-1)
    assert torch.equal(divergences, whole)
    assert torch.equal(losses, -ours.gather(-1, tokens[:, 1:])[:, 0])


def test_models_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ComeError, match="vocabularies"):
        come.kl_divergence(tiny_bundle(vocab_size=99), tiny_bundle(), TOKENS)
