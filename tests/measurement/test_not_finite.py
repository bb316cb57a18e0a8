"""A model whose values are no numbers: nothing is decided from them, whatever the method."""

from __future__ import annotations

import pytest
import torch

import come
from come.errors import ComeError
from come.measurement.similarity import _cosines
from come.measurement.statistics import cosine
from come.measurement.top_contexts import top_contexts
from come.models import Bundle
from come.pruning.registry import methods
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(4, 16)
LOOKING = [name for name, method in methods().items() if method.needs]
OPTIONS = {"taylor": {"plus": False}, "magnitude": {"plus": False}, "streamline": {"steps": 2}}


def overflowing(layer: int) -> Bundle:
    """A model that is sound in float32, and in float16 is not from a layer on."""
    bundle = tiny_bundle()
    bundle.layers[layer].mlp.down_proj.weight.data *= 1e6  # type: ignore[union-attr, operator]
    bundle.model.half()
    return bundle


@pytest.mark.parametrize("layer", [1, 5])
@pytest.mark.parametrize("method", LOOKING)
def test_a_model_that_overflows_gets_no_plan(method: str, layer: int) -> None:
    with pytest.raises(ComeError, match=r"overflow in float16\. Use bfloat16 or float32"):
        come.compress(overflowing(layer), TOKENS, method, target_layers=4, **OPTIONS.get(method, {}))


@pytest.mark.parametrize("method", [*LOOKING, "magnitude"])
def test_weights_that_are_no_numbers_are_named(method: str) -> None:
    bundle = tiny_bundle()
    bundle.layers[4].mlp.down_proj.weight.data[0, 0] = torch.nan  # type: ignore[union-attr, index]
    with pytest.raises(ComeError, match=r"weights are not numbers, first of all in model\.layers\.4\.mlp\.down_proj"):
        come.compress(bundle, TOKENS, method, target_layers=4, **OPTIONS.get(method, {}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_overflow_names_the_dtype(dtype: torch.dtype) -> None:
    bundle = tiny_bundle()
    bundle.model.to(dtype)
    for layer in bundle.layers:
        layer.mlp.down_proj.weight.data *= 1e38  # type: ignore[union-attr, operator]
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ComeError, match=f"overflow in {name}") as caught:
        come.measure(bundle, TOKENS)
    assert ("Use float32" in caught.value.hint) == (dtype == torch.bfloat16)


def too_large_to_square(layer: int) -> Bundle:
    """A float32 model whose values are finite, but whose squares are not from a layer on."""
    bundle = tiny_bundle()
    bundle.layers[layer].mlp.down_proj.weight.data *= 1e30  # type: ignore[union-attr, operator]
    return bundle


@pytest.mark.parametrize("layer", [1, 4])
def test_statistics_that_overflow_name_their_layer(layer: int) -> None:
    for look in (come.measure, lambda model, tokens: come.compress(model, tokens, "shortgpt", target_layers=4)):
        with pytest.raises(ComeError, match=rf"In layer {layer} \(the first is 0\).* overflow in float32"):
            look(too_large_to_square(layer), TOKENS)


def test_what_excites_a_channel_is_not_said_of_a_model_that_overflows_below_it() -> None:
    with pytest.raises(ComeError, match=r"layers\.1\.mlp\.down_proj\.weight, overflow in float16"):
        top_contexts(overflowing(1), TOKENS, layer=3, channel=2)


def test_a_measurement_by_hand_is_refused_too() -> None:
    with pytest.raises(ComeError, match="overflow in float16"):
        come.compress(overflowing(1), TOKENS, "come", windows=[(2, 3)])


def test_a_zero_vector_is_half_way_and_what_is_no_number_stays_none() -> None:
    states = torch.tensor([[0.0, 0.0], [3.0, 4.0], [torch.nan, 1.0], [torch.inf, 1.0]])
    assert cosine(states[1], states[0]) == 0.5
    assert cosine(states[1], states[1]) == 1
    assert cosine(states[[2, 3]], states[[1, 1]]).isnan().all()
    pairs = _cosines(states[None])[0]
    assert pairs[0, :2].tolist() == [0.5, 0.5] and pairs[1, 1] == 1
    assert pairs[2:].isnan().all() and pairs[:, 2:].isnan().all()
