from __future__ import annotations

import pytest
import torch

from come.errors import ComeError
from come.measurement.next_words import next_words
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle


@pytest.mark.parametrize("family", CASES)
def test_words_of_every_family_are_told_and_the_model_is_left_as_it_was(family: str) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    found = next_words(bundle, 3, 5, count=4)
    assert len(found.promoted) == len(found.suppressed) == 4
    assert not set(found.promoted) & set(found.suppressed)
    assert weights_hash(bundle.model) == before


def test_the_words_are_those_whose_logits_the_channel_moves_most() -> None:
    bundle = tiny_bundle("llama")
    column = bundle.layers[3].mlp.down_proj.weight[:, 5].detach()
    moved = bundle.model.lm_head.weight.detach() @ (bundle.model.model.norm.weight.detach() * column)
    moved = moved[: len(bundle.tokenizer)]
    found = next_words(bundle, 3, 5, count=3)
    order = moved.argsort(descending=True).tolist()
    assert list(found.promoted) == [bundle.tokenizer.decode([token]) for token in order[:3]]
    assert list(found.suppressed) == [bundle.tokenizer.decode([token]) for token in order[::-1][:3]]
    with torch.no_grad():
        bundle.layers[3].mlp.down_proj.weight[:, 5] *= -1
    other = next_words(bundle, 3, 5, count=3)
    assert (other.promoted, other.suppressed) == (found.suppressed, found.promoted)


@pytest.mark.parametrize(("layer", "channel"), [(6, 0), (-1, 0), (0, 48)])
def test_what_is_not_there_is_refused(layer: int, channel: int) -> None:
    with pytest.raises(ComeError, match="The model has no"):
        next_words(tiny_bundle(), layer, channel)
