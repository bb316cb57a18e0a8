"""A recovery that begins with no numbers is refused, with the layer or the weights; so is one that ends with none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

import come
from come.errors import ComeError
from come.models import Bundle
from come.recovery.registry import ways
from come.recovery.way import Recovered
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def damaged() -> Bundle:
    bundle = tiny_bundle()
    bundle.layers[1].mlp.down_proj.weight.data[0, 0] = torch.nan  # type: ignore[union-attr, index]
    return bundle


def overflowing() -> Bundle:
    bundle = tiny_bundle()
    bundle.layers[1].mlp.down_proj.weight.data.mul_(1e6).clamp_(-6e4, 6e4)  # type: ignore[union-attr, operator]
    bundle.model.half()
    return bundle


def pruned(bundle: Bundle) -> Bundle:
    return come.compress(bundle, TOKENS, "reverse", target_layers=4).bundle  # what `grow` can put back


@pytest.mark.parametrize("way", ways())
def test_weights_that_are_no_numbers_are_named_by_every_way(way: str) -> None:
    original = damaged()
    with pytest.raises(ComeError, match=r"weights are not numbers, first of all in model\.layers\.1\.mlp\.down_proj"):
        come.recover(pruned(original), original, TOKENS, way)


@pytest.mark.parametrize("way", [name for name in ways() if name == "refit" or name.startswith("distill")])
def test_the_layer_that_overflows_is_named_by_ways_that_work_in_the_models_dtype(way: str) -> None:
    original = overflowing()
    with pytest.raises(ComeError, match=r"In layer 1 \(the first is 0\) .* overflow in float16"):
        come.recover(pruned(original), original, TOKENS, way)


@pytest.mark.parametrize("value", [1e30, torch.nan])
def test_what_does_not_fit_the_models_dtype_is_not_put_in_place(value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    original = tiny_bundle()
    original.model.half()
    name = "model.layers.1.mlp.down_proj.weight"

    def way(*_: object) -> Recovered:
        return Recovered({name: torch.full((32, 48), value)}, [])

    function: Callable[..., Recovered] = way
    monkeypatch.setattr("come.recovery.recover._run", function)
    with pytest.raises(ComeError, match=r"gives model\.layers\.1\.mlp\.down_proj\.weight overflows in float16"):
        come.recover(pruned(original), original, TOKENS, "refit")
