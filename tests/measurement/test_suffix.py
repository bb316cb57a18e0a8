"""Losses from some layer on: those of the whole model that has these layers."""

from __future__ import annotations

import pytest
import torch

import come
from come.measurement.calibrate import batches
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.suffix import each_border, losses_from
from come.models import Bundle
from come.models.depth import with_layers
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(5, 14)


def whole_losses(bundle: Bundle) -> list[float]:
    """The loss of each sequence, by the model's own forward."""
    with torch.inference_mode():
        logits = bundle.model(TOKENS, use_cache=False).logits.float()
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].transpose(1, 2), TOKENS[:, 1:], reduction="none")
    return losses.mean(1).tolist()  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", CASES)
def test_losses_are_those_of_the_whole_model_with_these_layers(family: str) -> None:
    bundle = tiny_bundle(family)
    other = tiny_bundle(family, seed=1).layers[3]
    runner = LayerRunner(bundle)
    borders = [HiddenStateCache(6, 32, TOKENS.numel(), 4, budget) for budget in (None, 0, 5 * 14 * 32 * 4 * 2)]
    with torch.inference_mode():
        for kept in borders:
            for batch in batches(TOKENS, 2):
                list(each_border(runner, batch, kept))
    layers = list(bundle.layers)
    for start, suffix, instead in (
        (3, [4, 5], {}),  # a removal
        (2, [5], {}),
        (6, [], {}),
        (0, [0, 1, 2, 3, 4, 5], {}),
        (3, [3, 4, 5], {3: other}),
    ):
        origins = [*range(start), *suffix]
        changed = with_layers(bundle, [instead.get(layer, layers[layer]) for layer in origins], origins)
        found = [
            losses_from(runner, TOKENS, start, suffix, instead, borders=kept, batch_size=2) for kept in (None, *borders)
        ]
        assert found[0].tolist() == pytest.approx(whole_losses(changed), rel=1e-5)
        assert all(torch.equal(each, found[0]) for each in found)


@pytest.mark.parametrize("family", CASES)
def test_each_border_has_the_states_that_transformers_reports(family: str) -> None:
    bundle = tiny_bundle(family)
    runner = LayerRunner(bundle)
    with torch.inference_mode():
        expected = bundle.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states
        (batch,) = batches(TOKENS)
        found = list(each_border(runner, batch))
        found[6] = 6, runner.norm(found[6][1])
    assert [border for border, _ in found] == list(range(7))
    for (_, states), reported in zip(found, expected, strict=True):
        torch.testing.assert_close(states, reported, atol=1e-5, rtol=1e-5)


def test_the_loss_of_nothing_changed_is_that_of_the_perplexity() -> None:
    bundle = tiny_bundle()
    losses = losses_from(LayerRunner(bundle), TOKENS, 0, range(6))
    assert float(losses.mean().exp()) == pytest.approx(come.perplexity(bundle, TOKENS), rel=1e-6)
