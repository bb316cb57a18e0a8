"""What LaCo's and SLM's published programs make of a model, written once more on whole models, and ours beside them."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.plan.provenance import follow
from come.pruning.collapse import summed_differences
from come.transforms.rebuild import apply_step
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(3, 12)
MLP = ("gate_proj", "down_proj", "up_proj")
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
ALL = {"sequences": None, "seq_len": None}


def merged(model: Any, low: int, count: int) -> Any:
    """The seven maps of ``low`` and of ``count`` layers above it, added up in place as the programs do."""
    new = copy.deepcopy(model)
    base = new.model.layers[low]
    for above in range(low + 1, low + 1 + count):
        other = model.model.layers[above]
        for part, names in (("mlp", MLP), ("self_attn", ATTENTION)):
            for name in names:
                ours, theirs = (getattr(getattr(layer, part), name).weight.data for layer in (base, other))
                ours.add_(theirs - ours)
    for above in range(low + count, low, -1):
        del new.model.layers[above]
    return new


@torch.no_grad()
def alike(model: Any, other: Any) -> float:
    """The mean over sequences of the cosine of all last hidden states, put end to end."""
    found = []
    for sequence in TOKENS:
        states = [
            each(sequence[None], output_hidden_states=True, use_cache=False).hidden_states[-1].flatten()
            for each in (model, other)
        ]
        found.append(torch.cosine_similarity(*states, dim=0))
    return float(torch.stack(found).mean())


def laco(model: Any, threshold: float, merge: int, interval: int, highest: int, lowest: int) -> Any:
    now, lay = model, highest - merge
    while lay >= lowest:
        tried = merged(now, lay, min(merge - 1, len(now.model.layers) - lay - 1))
        if alike(model, tried) > threshold:
            now = tried
            lay -= interval
            if lay >= len(now.model.layers):
                lay = len(now.model.layers) - 1 - merge
        else:
            lay -= 1
    return now


def slm(model: Any, threshold: float) -> Any:
    now, high = model, len(model.model.layers) - 2
    low = high - 1
    while low >= 0:
        if alike(model, merged(now, low, high - low)) > threshold:
            low -= 1
        elif low + 1 != high:
            now = merged(now, low + 1, high - low - 1)
            high = low
        else:
            high, low = high - 1, low - 1
    return now


def check_same(ours: Any, theirs: Any) -> None:
    assert len(ours.model.layers) == len(theirs.model.layers)
    expected = dict(theirs.named_parameters())
    for name, value in ours.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("family", "seed", "threshold"), [("llama", 0, 0.6), ("llama", 1, 0.5), ("qwen2", 2, 0.72)])
def test_slm_makes_what_the_program_makes(family: str, seed: int, threshold: float) -> None:
    bundle = tiny_bundle(family, 10, seed)
    theirs = slm(bundle.model, threshold)
    left = len(theirs.model.layers)
    assert 3 < left < 9
    made = come.compress(
        bundle, TOKENS, "slm", target_layers=left, formula="published", threshold=threshold, batch_size=1, **ALL
    )
    check_same(made.bundle.model, theirs)


@pytest.mark.parametrize(
    ("family", "seed", "threshold", "window", "interval", "bounds"),
    [
        ("llama", 0, 0.6, 3, 1, (0, 8)),  # as the notebook leaves the last layer out of its first window
        ("llama", 2, 0.6, 3, 1, (0, 8)),
        ("llama", 1, 0.6, 4, 2, (1, 9)),
        ("qwen2", 1, 0.5, 4, 2, (1, 9)),
        ("qwen2", 2, 0.45, 7, 1, (0, 8)),
    ],
)
def test_laco_makes_what_the_program_makes(
    family: str, seed: int, threshold: float, window: int, interval: int, bounds: tuple[int, int]
) -> None:
    bundle = tiny_bundle(family, 10, seed)
    theirs = laco(bundle.model, threshold, window, interval, bounds[1] + 1, bounds[0])
    left = len(theirs.model.layers)
    assert 2 < left < 10
    options = {"window": window, "interval": interval, "lowest": bounds[0], "highest": bounds[1], **ALL}
    options |= {"formula": "published", "walk": "published", "threshold": threshold}
    made = come.compress(bundle, TOKENS, "laco", target_layers=left, **options)
    check_same(made.bundle.model, theirs)
    assert made.plan.notes == [f"Threshold {threshold:.2f}, as given."]


@pytest.mark.parametrize("family", ["llama", "qwen3", "gpt2", "opt", "phi3", "cohere:qk-norm"])
def test_what_telescopes_is_the_last_layer_between_the_norms_of_the_first(family: str) -> None:
    bundle = tiny_bundle(family)
    made = apply_step(bundle, summed_differences((1, 3), "published"))
    first, last, new = bundle.layers[1], bundle.layers[3], made.layers[1]
    maps = {f"{path}.weight" for path in (*bundle.family.attention_paths, *bundle.family.ffn_paths)}
    for name, value in new.named_parameters():
        assert torch.equal(value, (last if name in maps else first).get_parameter(name)), name
    assert len(made.layers) == 4


def test_a_plan_says_that_all_units_are_those_of_the_last_layer() -> None:
    bundle = tiny_bundle()
    made = come.compress(bundle, TOKENS, "slm", target_layers=3, formula="published", threshold=-1.0)
    [step] = made.plan.steps
    assert step.describe().endswith("weights 0.000 : 0.000 : 0.000 : 1.000, norms and biases of layer 1.")
    origins = follow(made.plan, "ffn", bundle.shape.channels)
    assert [[piece.source for piece in layer.pieces] for layer in origins.final] == [[0], [4], [5]]
    assert (origins.lost[1:4] == 0).all() and origins.kept(4).all() and not origins.averaged.any()


def test_bounds_hold_and_are_checked() -> None:
    bundle = tiny_bundle(layers=8)
    made = come.compress(bundle, TOKENS, "laco", target_layers=5, lowest=2, highest=5, window=3)
    assert made.plan.groups() == [[0], [1], [2, 3, 4, 5], [6], [7]]
    with pytest.raises(ComeError, match="5 are left when all others within the bounds are"):
        come.compress(bundle, TOKENS, "laco", target_layers=4, lowest=2, highest=5)
    for bounds in ({"lowest": 7}, {"highest": 8}, {"lowest": 3, "highest": 3}):
        with pytest.raises(ComeError, match="nothing to merge"):
            come.compress(bundle, TOKENS, "laco", target_layers=5, **bounds)
