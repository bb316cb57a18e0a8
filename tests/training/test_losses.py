"""Losses by hand, and losses over the vocabulary in chunks."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.recovery.registry import parse
from come.training import vocabulary_loss
from come.training.losses import LOSSES, Loss
from come.training.student import trainable_bundle
from come.training.vocabulary_loss import (
    VocabularyLoss,
    divergence,
    head_gradients,
    head_loss,
    reverse_divergence,
    top_divergence,
)
from tests.tiny import VOCAB, tiny_bundle, tiny_tokens


def test_losses_of_hidden_states_by_hand() -> None:
    made, wanted = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[math.log(3), 0.0], [4.0, 3.0]])
    first = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    p = 1 / (1 + math.exp(-1))
    second = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert float(LOSSES["kl"](made, wanted)) == pytest.approx((first + second) / 2, rel=1e-5)
    assert float(LOSSES["mse"](made, wanted)) == pytest.approx((1.0 + 2 / 25) / 2, rel=1e-5)
    assert float(LOSSES["cosine"](made, wanted)) == pytest.approx(1 - (0 + 24 / 25) / 2, rel=1e-5)
    assert float(LOSSES["plain-mse"](made, wanted)) == pytest.approx((math.log(3) ** 2 + 2) / 4, rel=1e-5)
    for loss in LOSSES.values():
        assert float(loss(wanted, wanted)) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("way", ["distill-mp", "distill-sp"])
def test_the_losses_are_the_choices_of_the_option(way: str) -> None:
    assert get_args(Loss) == tuple(LOSSES)
    for name in LOSSES:
        ((_, options),) = parse(way, {"loss": name})
        assert options.loss == name
    with pytest.raises(ComeError, match=f"loss of {way} cannot be 'mae'. It takes kl or mse or cosine or plain-mse."):
        parse(way, {"loss": "mae"})


def test_divergence_and_its_gradient_by_hand() -> None:
    logits = torch.tensor([[0.0, math.log(3)]], requires_grad=True)
    taught = torch.tensor([[0.0, 0.0]])
    loss = divergence(logits, taught)
    assert loss.item() == pytest.approx(0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75), rel=1e-5)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.25, 0.25]]))


def test_reverse_divergence_by_hand() -> None:
    logits, taught = torch.tensor([[0.0, math.log(3)]], requires_grad=True), torch.tensor([[0.0, 0.0]])
    loss = reverse_divergence(logits, taught)
    kl = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert loss.item() == pytest.approx(kl, rel=1e-5)
    loss.backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.25 * (math.log(0.5) - kl), 0.75 * (math.log(1.5) - kl)]]))


def test_reverse_divergence_equals_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, taught = (3 * torch.randn(9, 40, generator=generator) for _ in range(2))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = reverse_divergence(ours, taught)
    expected = functional.kl_div(taught.log_softmax(-1), theirs.log_softmax(-1), log_target=True, reduction="sum")
    torch.testing.assert_close(loss, expected)
    (2 * loss).backward()
    (2 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    assert float(reverse_divergence(logits, logits)) == pytest.approx(0, abs=1e-5)


def test_divergence_equals_autograd() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, taught = (3 * torch.randn(9, 40, generator=generator) for _ in range(2))
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    loss = divergence(ours, taught)
    expected = functional.kl_div(theirs.log_softmax(-1), taught.log_softmax(-1), log_target=True, reduction="sum")
    torch.testing.assert_close(loss, expected)
    (2 * loss).backward()
    (2 * expected).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(top_divergence(logits, taught, 40), expected.detach(), rtol=1e-4, atol=1e-4)
    assert 0 < float(top_divergence(logits, taught, 3)) < float(expected)


def test_the_rest_is_lumped() -> None:
    taught, logits = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log(), torch.tensor([[0.25, 0.25, 0.4, 0.1]]).log()
    expected = 0.5 * math.log(0.5 / 0.25) + 0.3 * math.log(0.3 / 0.25) + 0.2 * math.log(0.2 / 0.5)
    assert float(top_divergence(logits, taught, 2)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "loss",
    [
        VocabularyLoss(),
        VocabularyLoss(temperature=2.0, text=0.5),
        VocabularyLoss(teacher=0.0, text=1.0),
        VocabularyLoss(top_k=5),
        VocabularyLoss(reverse=True, temperature=2.0),
    ],
)
@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_chunked_equals_unchunked(family: str, loss: VocabularyLoss, monkeypatch: pytest.MonkeyPatch) -> None:
    student, _ = trainable_bundle(tiny_bundle(family), lambda name: True)
    runner, tokens = LayerRunner(student), tiny_tokens(3, 10)
    generator = torch.Generator().manual_seed(0)
    normed, taught = (torch.randn(3, 10, 32, generator=generator) for _ in range(2))
    other = LayerRunner(tiny_bundle(family, seed=1))
    wanted = other.logits(taught).flatten(0, 1).detach()

    def logits(rows: slice) -> Tensor:
        return wanted[rows]

    whole = normed.clone().requires_grad_()
    made = runner.logits(whole)
    expected = made.new_zeros(())
    if loss.teacher:
        log_made, log_wanted = ((each.reshape(-1, VOCAB) / loss.temperature).log_softmax(-1) for each in (made, wanted))
        if loss.reverse:
            kl = (log_made.exp() * (log_made - log_wanted)).sum() / 30
        elif loss.top_k is None:
            kl = (log_wanted.exp() * (log_wanted - log_made)).sum() / 30
        else:
            kl = top_divergence(made.reshape(-1, VOCAB), wanted, loss.top_k) / 30
        expected = expected + loss.temperature**2 * kl
    if loss.text:
        text = functional.cross_entropy(made[:, :-1].reshape(-1, VOCAB), tokens[:, 1:].flatten())
        expected = expected + loss.text * text
    expected.backward()
    head = student.model.lm_head.weight
    expected_head, head.grad = head.grad, None

    for chunk in (4, 1000):
        monkeypatch.setitem(vocabulary_loss.CHUNK, "cpu", chunk)
        value, gradient = head_gradients(runner, normed, logits, tokens, loss)
        assert value == pytest.approx(float(expected.detach()), rel=1e-5)
        torch.testing.assert_close(gradient, whole.grad, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(head.grad, expected_head, rtol=1e-4, atol=1e-7)
        head.grad = None
        assert head_loss(runner, normed, logits, tokens, loss) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("way", "values"),
    [("logits", {"temperature": 0}), ("logits", {"top_k": 0}), ("logits", {"text": -1.0}), ("lora", {"teacher": -0.1})],
)
def test_losses_that_make_no_sense(way: str, values: dict[str, float]) -> None:
    with pytest.raises(ComeError, match=r"cannot be .*\. Give "):
        parse(way, values)
