"""How few layers a sequence needs, held against whole models of every subset of layers."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from come.errors import ComeError
from come.models import Bundle
from come.plan.steps import Remove
from come.pruning.layers_needed import LayersNeeded, layers_needed
from come.transforms.rebuild import apply_step
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(2, 12)
LAYERS = 5
Losses = dict[tuple[int, ...], float]


def every_subset(bundle: Bundle) -> list[Losses]:
    """For each sequence its loss in a model of each subset of layers, by the model's own forward."""
    found: list[Losses] = [{} for _ in TOKENS]
    for count in range(1, LAYERS + 1):
        for kept in combinations(range(LAYERS), count):
            gone = sorted(set(range(LAYERS)) - set(kept))
            model = (apply_step(bundle, Remove(layers=gone)) if gone else bundle).model
            for losses, sequence in zip(found, TOKENS, strict=True):
                with torch.no_grad():
                    losses[kept] = float(model(sequence[None], labels=sequence[None]).loss)
    return found


def greedy(losses: Losses, tolerance: float) -> tuple[int, ...]:
    kept = tuple(range(LAYERS))
    bound = losses[kept] + tolerance
    while len(kept) > 1:
        fewer = min(((*kept[:at], *kept[at + 1 :]) for at in range(len(kept))), key=losses.__getitem__)
        if losses[fewer] > bound:
            break
        kept = fewer
    return kept


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_both_searches_are_those_of_whole_models_and_never_below_the_optimum(family: str) -> None:
    bundle = tiny_bundle(family, LAYERS)
    spaced = [(0,), (0, 4), (0, 2, 4), (0, 1, 3, 4), (0, 1, 2, 3, 4)]
    by_hand = every_subset(bundle)
    searched = [(tolerance, layers_needed(bundle, TOKENS, tolerance)) for tolerance in (0.0, 0.05, 0.5)]
    for tolerance, found, losses in ((t, *pair) for t, each in searched for pair in zip(each, by_hand, strict=True)):
        whole = losses[tuple(range(LAYERS))]
        assert found.loss == pytest.approx(whole, abs=1e-5)
        assert found.kept == greedy(losses, tolerance) and found.complete
        assert found.kept_loss == pytest.approx(losses[found.kept], abs=1e-5)
        assert found.kept_loss <= found.loss + tolerance
        doing = [kept for kept in spaced if losses[kept] <= whole + tolerance]
        assert found.uniform == len(doing[0])
        assert found.uniform_loss == pytest.approx(losses[doing[0]], abs=1e-5)
        optimum = min(len(kept) for kept, loss in losses.items() if loss <= whole + tolerance)
        assert optimum <= found.layers == min(len(found.kept), found.uniform)


def test_it_finds_the_optimum_where_every_layer_but_some_has_learned_something() -> None:
    bundle = tiny_bundle("llama", LAYERS)
    for layer in (1, 3):
        for path in (bundle.family.attention_output, bundle.family.ffn_output):
            bundle.layers[layer].get_submodule(path).weight.data.zero_()
    learning = [parameter for layer in (0, 2, 4) for parameter in bundle.layers[layer].parameters()]
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    for _ in range(40):
        optimizer.zero_grad()
        bundle.model(TOKENS, labels=TOKENS).loss.backward()
        optimizer.step()
    for found, losses in zip(layers_needed(bundle, TOKENS, 1e-4), every_subset(bundle), strict=True):
        optimum = min(len(kept) for kept, loss in losses.items() if loss <= found.loss + 1e-4)
        assert found.kept == (0, 2, 4) and optimum == found.layers == 3


def test_the_cost_is_bounded() -> None:
    bundle = tiny_bundle("llama", LAYERS)
    all_of_it = layers_needed(bundle, TOKENS, tolerance=100.0)
    assert [len(found.kept) for found in all_of_it] == [1] * len(TOKENS)
    one_round = layers_needed(bundle, TOKENS, tolerance=100.0, passes=3.0)  # (5 * 4 / 2 + 5) / 5
    assert [len(found.kept) for found in one_round] == [4] * len(TOKENS)
    assert not any(found.complete for found in one_round) and all(found.complete for found in all_of_it)
    none = layers_needed(bundle, TOKENS, tolerance=100.0, passes=2.9)
    assert {found.kept for found in none} == {(0, 1, 2, 3, 4)} and {found.uniform for found in none} == {1}


def test_overflowing_models_are_refused() -> None:
    bundle = tiny_bundle("llama", LAYERS)
    bundle.layers[2].mlp.down_proj.weight.data.fill_(torch.inf)
    with pytest.raises(ComeError, match=r"layers\.2"):
        layers_needed(bundle, TOKENS)
    with pytest.raises(ComeError, match="below 0"):
        layers_needed(bundle, TOKENS, -0.1)


def test_the_fewest_of_both_searches() -> None:
    assert LayersNeeded(1.0, (0, 3), 1.0, 1, 0.9, True).layers == 1
