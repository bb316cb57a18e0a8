from __future__ import annotations

import math
import sys

import pytest
import torch

import come
from come.evaluate import measure_perplexity
from come.evaluate.perplexity import from_losses, predicted_bytes
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
    monkeypatch.setattr(sys.modules["come.measurement.suffix"], "HEAD_TOKENS", 7)
    assert come.perplexity(bundle, tokens) == pytest.approx(whole, rel=1e-6)


def test_bits_per_byte_is_all_nats_over_the_bytes_of_the_predicted_text() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(4, 20)  # a space and one ASCII character a token
    found = measure_perplexity(bundle, tokens)
    assert (found.tokens, found.bytes) == (4 * 19, 2 * 4 * 19)
    assert found.bits_per_byte == pytest.approx(math.log2(found.value) / 2, rel=1e-6)
    assert found.bits_per_byte_stderr == pytest.approx(found.stderr / found.value / math.log(2) / 2, rel=1e-6)
    assert set(found.metrics()) == {"perplexity", "perplexity_stderr", "bits_per_byte", "bits_per_byte_stderr"}


def test_bytes_are_those_of_the_text_without_its_first_token() -> None:
    class Words:
        """A tokenizer of words of several bytes, the last of them special."""

        def decode(self, ids: list[int], skip_special_tokens: bool, **_: object) -> str:
            words = ["né", " à", " 東京", "</s>"]
            return "".join(words[token] for token in ids if not (skip_special_tokens and token == 3))

    tokens = torch.tensor([[0, 1, 2], [2, 3, 0], [1, 3, 3]])
    assert predicted_bytes(Words(), tokens) == [3 + 7, 3, 0]
    alike = from_losses(torch.tensor([1.0, 1.0]), tokens[:2], Words())
    assert alike.bits_per_byte == pytest.approx(4 / math.log(2) / 13)
    assert alike.bits_per_byte_stderr > 0 == alike.stderr  # the losses agree, the bytes do not


def test_what_is_not_a_number_is_not_told() -> None:
    bundle = tiny_bundle()
    assert set(measure_perplexity(bundle, tiny_tokens(1, 20)).metrics()) == {"perplexity", "bits_per_byte"}
    lost = from_losses(torch.tensor([1e4, 1e4]), tiny_tokens(2, 5), bundle.tokenizer)
    assert set(lost.metrics()) == {"perplexity", "bits_per_byte", "bits_per_byte_stderr"}
