"""What holds of every method that removes whole layers, on every family; and the rules that read no text."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import Conv1D

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.pruning.common import lowest
from come.pruning.methods.magnitude import magnitudes
from come.pruning.methods.skip import evenly_spaced
from come.pruning.registry import methods
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(4, 12)
REMOVALS = ("deeper", "inheritune", "magnitude", "random", "reverse", "shortgpt", "skip", "sleb", "taylor")


def left(name: str, layers: int, target: int, **options: Any) -> list[int]:
    """The original layers that a method leaves of a tiny model."""
    groups = come.compress(tiny_bundle(layers=layers), TOKENS, name, target_layers=target, **options).plan.groups()
    assert all(len(group) == 1 for group in groups)
    return [group[0] for group in groups]


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("name", REMOVALS)
def test_it_hits_the_target_leaves_the_model_alone_and_rebuilds_and_resumes(name: str, family: str) -> None:
    bundle = tiny_bundle(family, layers=8)
    before, flags = weights_hash(bundle.model), [each.requires_grad for each in bundle.model.parameters()]
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, name, target_layers=6, on_step=plans.append)
    assert len(result.bundle.layers) == result.plan.layers == result.bundle.model.config.num_hidden_layers == 6
    assert weights_hash(bundle.model) == before
    assert [each.requires_grad for each in bundle.model.parameters()] == flags
    assert all(each.grad is None for each in bundle.model.parameters())
    assert result.bundle.plan == plans[-1] == result.plan
    assert len(result.history) == 2
    with torch.inference_mode():
        assert result.bundle.model(TOKENS).logits.isfinite().all()

    read = Plan.parse(result.plan.model_dump_json())
    assert weights_hash(replay(bundle, read).model) == weights_hash(result.bundle.model)
    again = come.compress(bundle, TOKENS, name, target_layers=6, done=plans[0])
    assert again.plan == result.plan
    assert weights_hash(again.bundle.model) == weights_hash(result.bundle.model)


@pytest.mark.parametrize("name", REMOVALS)
def test_nothing_to_remove_changes_nothing(name: str) -> None:
    bundle = tiny_bundle(layers=4)
    result = come.compress(bundle, TOKENS, name, target_layers=4)
    assert result.plan.steps == []
    assert weights_hash(result.bundle.model) == weights_hash(bundle.model)


@pytest.mark.parametrize("name", sorted(set(REMOVALS) - {"magnitude", "taylor"}))
def test_it_removes_all_but_one_where_asked(name: str) -> None:
    assert len(left(name, 4, 1)) == 1


def test_every_method_says_what_it_costs() -> None:
    for method in methods().values():
        assert method.cost.endswith("."), method.name
        assert method.target in ("layers", "parameters")
        assert set(method.needs) <= {"forward", "logits", "gradients", "training"}
        assert method.kind in ("merge", "remove", "mask", "average", "train")


def test_the_last_layers_go_in_reverse_order() -> None:
    assert left("reverse", 6, 4) == [0, 1, 2, 3]
    assert left("reverse", 6, 4, keep_last=1) == [0, 1, 2, 5]
    assert left("reverse", 6, 2, keep_last=2) == [4, 5]


def test_the_first_layers_are_inherited() -> None:
    assert left("inheritune", 6, 4) == [0, 1, 2, 3]


def test_skipped_layers_lie_evenly() -> None:
    assert left("skip", 6, 4) == [0, 2, 3, 5]
    assert left("skip", 9, 5) == [0, 2, 4, 6, 8]
    assert left("skip", 9, 8) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert sorted(set(range(30)) - set(evenly_spaced(30, 27))) == [5, 14, 24]


@given(st.integers(1, 200).flatmap(lambda layers: st.tuples(st.just(layers), st.integers(1, layers))))
def test_evenly_spaced_layers_keep_both_ends_and_gaps_that_differ_by_one(sizes: tuple[int, int]) -> None:
    layers, count = sizes
    kept = evenly_spaced(layers, count)
    assert len(set(kept)) == len(kept) == count
    assert kept[0] == 0
    assert count == 1 or kept[-1] == layers - 1
    gaps = [above - below for below, above in pairwise(kept)]
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert all(abs(each - at * (layers - 1) / max(1, count - 1)) <= 0.5 for at, each in enumerate(kept))


def test_chance_is_repeated_by_its_seed() -> None:
    assert left("random", 9, 4, seed=3) == left("random", 9, 4, seed=3)
    assert len({tuple(left("random", 9, 4, seed=seed)) for seed in range(4)}) > 1


@pytest.mark.parametrize("family", CASES)
def test_block_influence_decides_for_shortgpt(family: str) -> None:
    bundle = tiny_bundle(family)
    with torch.inference_mode():
        states = bundle.model(TOKENS, output_hidden_states=True).hidden_states
    influence = [
        float((1 - torch.nn.functional.cosine_similarity(below, above, dim=-1).clamp(0, 1)).mean())
        for below, above in pairwise(states)
    ]
    gone = sorted(range(6), key=influence.__getitem__)[:2]
    result = come.compress(bundle, TOKENS, "shortgpt", target_layers=4)
    assert result.plan.groups() == [[layer] for layer in range(6) if layer not in gone]


@pytest.mark.parametrize("family", CASES)
def test_magnitudes_are_those_of_the_linear_maps(family: str) -> None:
    bundle = tiny_bundle(family)
    expected = [
        sum(float(each.weight.detach().abs().sum()) for each in layer.modules() if isinstance(each, nn.Linear | Conv1D))
        for layer in bundle.layers
    ]
    assert magnitudes(bundle).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_smallest_weights_go_within_what_plus_leaves() -> None:
    bundle = tiny_bundle(layers=9)
    with torch.no_grad():
        for layer, factor in zip(bundle.layers, (1, 5, 5, 5, 4, 2, 3, 5, 1), strict=True):
            for each in layer.modules():
                if isinstance(each, nn.Linear):
                    each.weight.fill_(0.01 * factor)

    def gone(target: int, plus: bool) -> list[int]:
        groups = come.compress(bundle, TOKENS, "magnitude", target_layers=target, plus=plus).plan.groups()
        return sorted(set(range(9)) - {layer for group in groups for layer in group})

    assert gone(8, plus=True) == [5]
    assert gone(7, plus=True) == [5, 6]
    assert gone(6, plus=True) == [4, 5, 6]
    assert gone(8, plus=False) == [0], "the first on ties"
    assert gone(6, plus=False) == [0, 5, 8]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12), st.data())
def test_the_lowest_are_the_first_of_a_stable_sort(scores: list[int], data: st.DataObject) -> None:
    among = sorted(data.draw(st.sets(st.integers(0, len(scores) - 1), min_size=1)))
    count = data.draw(st.integers(0, len(among)))
    expected = sorted(among, key=lambda layer: (scores[layer], layer))[:count]
    assert lowest(torch.tensor(scores, dtype=torch.float32), count, among) == expected


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("magnitude", {}, "first 4 and the last 2 of 6 layers"),
        ("taylor", {}, "so that 0 can be removed, not 3"),
        ("reverse", {"keep_last": 4}, "cannot be kept where 3 are left"),
        ("reverse", {"keep_last": -1}, "keep_last of reverse cannot be -1. Give 0 or more."),
        ("deeper", {"distance_tokens": "first"}, "distance_tokens of deeper cannot be 'first'. It takes last or all."),
        ("deeper", {"last_state": "other"}, "last_state of deeper cannot be 'other'. It takes normed or raw."),
        ("sleb", {"batch_size": 0}, "batch_size of sleb cannot be 0. Give 1 or more."),
        ("sleb", {"memory_budget": -1}, "memory_budget of sleb cannot be -1. Give 0 or more."),
        ("skip", {"seed": 1}, "no option"),
    ],
)
def test_impossible_requests_get_one_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, name, target_layers=3, **options)
