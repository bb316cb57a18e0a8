"""LESA, held against its rule written once more, in float64 where nothing is drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.growing import grow
from come.growing.methods.lesa import LesaOptions, decomposed, trained
from come.models import Bundle
from tests.tiny import CASES, tiny_bundle

ONE_KIND = [case for case in CASES if case != "gemma2"]
FEW = {"epochs": 2, "hidden": 8, "batch": 16}


def matrices_of(bundle: Bundle, path: str) -> list[Tensor]:
    weights = [layer.get_submodule(path).weight.detach() for layer in bundle.layers]
    return [weight.T if bundle.family.transposed else weight for weight in weights]


def learned(right: list[Tensor], below: int, seed: int = 0) -> Tensor:
    """What their program predicts between two layers: all rows of all triples in one table, in a plain loop."""
    table = torch.cat([torch.cat([a, c], 1) for a, c in zip(right, right[2:], strict=False)])
    wanted = torch.cat(right[1:-1])
    width = right[0].shape[1]
    state = torch.random.get_rng_state()
    torch.manual_seed(seed)
    first, second, third = nn.Linear(2 * width, 8), nn.Linear(8, 8), nn.Linear(8, width)
    orders = [torch.randperm(len(table)) for _ in range(2)]
    torch.random.set_rng_state(state)

    def network(x: Tensor) -> Tensor:
        return third(second(first(x).relu()).relu())  # type: ignore[no-any-return]

    parameters = [weight for map in (first, second, third) for weight in map.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)
    for order in orders:
        for start in range(0, len(order), 16):
            rows = order[start : start + 16]
            found = network(table[rows])
            squares = ((found - wanted[rows]) ** 2).mean()
            norms = (found.norm() - wanted[rows].norm()) ** 2
            optimizer.zero_grad()
            (0.9995 * squares + 0.0005 * norms).backward()
            optimizer.step()
    with torch.no_grad():
        return network(torch.cat([right[below], right[below + 1]], 1))


@pytest.mark.parametrize("family", ONE_KIND)
def test_the_new_layers_are_those_of_the_rule(family: str) -> None:
    bundle = tiny_bundle(family, layers=5)
    below = 0 if family in ("gemma3_text", "smollm3") else 2  # where both neighbours are of one kind
    grown = grow(bundle, "lesa", after=[below], **FEW)
    assert grown.origins == tuple(sorted([*range(5), below])) and grown.new == (below + 1,)
    paths = (*bundle.family.attention_paths, *bundle.family.ffn_paths)
    assert grown.fits.keys() == set(paths)
    new = grown.bundle.layers[below + 1]
    for path in paths:
        given = matrices_of(bundle, path)
        left, singular, right = torch.linalg.svd(torch.hstack(given), full_matrices=False)
        width = given[0].shape[1]
        pieces = [right[:, start : start + width] for start in range(0, right.shape[1], width)]
        expected = left @ torch.diag(singular) @ learned(pieces, below)
        made = new.get_submodule(path).weight.detach()
        torch.testing.assert_close(made.T if bundle.family.transposed else made, expected, rtol=1e-4, atol=1e-5)
    both = bundle.layers[below], bundle.layers[below + 1]
    learned_weights = {f"{path}.weight" for path in paths}
    for name, value in new.named_parameters():
        if name not in learned_weights:
            torch.testing.assert_close(value, sum(layer.get_parameter(name) for layer in both) / 2)


def test_the_decomposition_gives_each_layer_back() -> None:
    matrices = [torch.randn(7, 5, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    basis, rows = decomposed(matrices)
    assert basis.shape == (7, 7) and rows.shape == (7, 4, 5)
    for layer, matrix in enumerate(matrices):
        torch.testing.assert_close(basis @ rows[:, layer], matrix, rtol=1e-4, atol=1e-5)
    wide = np.concatenate([matrix.double().numpy() for matrix in matrices], axis=1)
    lengths = basis.square().sum(0).sqrt().double().numpy()
    np.testing.assert_allclose(lengths, np.linalg.svd(wide, compute_uv=False), rtol=1e-5)


def test_a_rule_between_neighbours_is_learned() -> None:
    """Rows of which each is the mean of its neighbours': a network that learns gets much nearer than at its start."""
    generator = torch.Generator().manual_seed(3)
    ends = torch.randn(40, 2, 6, generator=generator)
    steps = torch.linspace(0, 1, 9)
    rows = ends[:, :1] * (1 - steps)[None, :, None] + ends[:, 1:] * steps[None, :, None]

    def missed(epochs: int) -> float:
        network = trained(rows, LesaOptions(epochs=epochs, hidden=64, batch=32), seed=0)
        with torch.no_grad():
            between = network(torch.cat([rows[:, 3], rows[:, 5]], 1))
        return float((between - rows[:, 4]).norm() / rows[:, 4].norm())

    assert missed(60) < 0.1 < missed(1)


def test_the_same_seed_gives_the_same_layers_and_the_worlds_generator_is_left_alone() -> None:
    bundle = tiny_bundle(layers=4)
    state = torch.random.get_rng_state()
    first, again, other = (grow(bundle, "lesa", layers=5, seed=seed, **FEW).bundle for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert first.fingerprint == again.fingerprint != other.fingerprint


def test_the_topmost_places_by_default() -> None:
    grown = grow(tiny_bundle(layers=6), "lesa", layers=9, **FEW)
    assert grown.origins == (0, 1, 2, 2, 3, 3, 4, 4, 5) and grown.new == (3, 5, 7)


@pytest.mark.parametrize(
    ("bundle", "what", "sentence"),
    [
        (tiny_bundle("gemma2", layers=4), {}, "attend in different ways"),
        (tiny_bundle("smollm3", layers=4), {"after": [1]}, "attend in different ways"),
        (tiny_bundle(layers=2), {}, "three layers in a row"),
        (tiny_bundle(layers=4), {"lr": 1e15}, "not finite"),
    ],
)
def test_what_cannot_be_learned_is_said(bundle: Bundle, what: dict[str, object], sentence: str) -> None:
    given = {**FEW, **what}
    layers = None if "after" in given else len(bundle.layers) + 1
    with pytest.raises(ComeError) as caught:
        grow(bundle, "lesa", layers=layers, **given)  # type: ignore[arg-type]
    assert sentence in str(caught.value)
