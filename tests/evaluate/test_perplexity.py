from __future__ import annotations

import math
import sys

import pytest
import torch

import come
from come.evaluate import measure_perplexity
from tests.tiny import CASES, tiny_bundle, tiny_tokens


@pytest.mark.parametrize("family", CASES)
def test_it_is_exp_of_the_mean_loss_over_predicted_tokens(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(5, 20)
    with torch.inference_mode():
        logits = bundle.model(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
    assert come.perplexity(bundle, tokens, batch_size=2) == pytest.approx(math.exp(loss), rel=1e-5)


def test_the_standard_error_is_over_sequences() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(4, 20)
    alone = [math.log(come.perplexity(bundle, tokens[row : row + 1])) for row in range(4)]
    found = measure_perplexity(bundle, tokens)
    assert found.value == pytest.approx(math.exp(sum(alone) / 4), rel=1e-5)
    assert found.stderr == pytest.approx(found.value * torch.tensor(alone).std().item() / 2, rel=1e-3)
    assert found.tokens == 4 * 19


def test_the_head_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(4, 20)
    whole = come.perplexity(bundle, tokens)
    monkeypatch.setattr(sys.modules["come.measure.loss"], "HEAD_TOKENS", 7)
    assert come.perplexity(bundle, tokens) == pytest.approx(whole, rel=1e-6)
