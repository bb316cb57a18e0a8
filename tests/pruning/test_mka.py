"""MKA: the formulas by hand and in plain loops, and the merges that they lead to."""

from __future__ import annotations

import math

import numpy
import pytest
import torch

import come
from come.pruning.methods.mka import MKAOptions, cells_of, diffusion_embedding, npib
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def test_npib_by_hand() -> None:
    a = torch.tensor([0, 0, 1, 1])
    assert npib(a, a) == pytest.approx(1)
    assert npib(a, torch.tensor([0, 1, 0, 1])) == pytest.approx(0, abs=1e-6)
    assert npib(a, torch.zeros(4, dtype=torch.long)) == 0
    # b has three in one cell and one in another; together: two, one, one.
    entropies = math.log(2), -0.75 * math.log(0.75) - 0.25 * math.log(0.25), 0.5 * math.log(2) + 0.5 * math.log(4)
    expected = (entropies[0] + entropies[1] - entropies[2]) / math.sqrt(entropies[0] * entropies[1])
    assert npib(a, torch.tensor([0, 0, 1, 0])) == pytest.approx(expected)


@pytest.mark.parametrize("sigma", ["median", 3.0])
def test_the_embedding_is_that_of_plain_loops(sigma: float | str) -> None:
    states = torch.randn(30, 8, generator=torch.Generator().manual_seed(0))
    x, n = states.double().numpy(), 30
    distances = numpy.array([[math.dist(x[i], x[j]) for j in range(n)] for i in range(n)])
    width = float(torch.tensor(distances).median()) if sigma == "median" else float(sigma)
    kernel = numpy.array([[math.exp(-((distances[i, j] / width) ** 0.5)) for j in range(n)] for i in range(n)])
    density = kernel.sum(1)
    kernel = numpy.array([[kernel[i, j] / (density[i] * density[j]) ** 0.5 for j in range(n)] for i in range(n)])
    degree = kernel.sum(1)
    operator = numpy.array([[kernel[i, j] / (degree[i] * degree[j]) ** 0.5 for j in range(n)] for i in range(n)])
    left, values, _ = numpy.linalg.svd(operator)
    assert values[0] == pytest.approx(1)
    expected = left[:, 1:3] / left[:, :1]
    found = diffusion_embedding(states, 2, sigma).numpy()  # type: ignore[arg-type]
    numpy.testing.assert_allclose(numpy.abs(found), numpy.abs(expected), rtol=0.02, atol=0.002)


def test_cells_are_equally_full_along_each_coordinate() -> None:
    states = torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
    cells = cells_of(states, MKAOptions())
    assert cells.max() == 8, "(500 / 5)^(1/4) is 3.16, so there are 3 x 3 cells"
    for coordinate in (cells % 3, cells // 3):
        assert coordinate.bincount().tolist() == pytest.approx([500 / 3] * 3, abs=1)


def test_a_layer_is_most_like_itself() -> None:
    generator = torch.Generator().manual_seed(2)
    states = torch.randn(800, 16, generator=generator)
    options = MKAOptions()
    near = states + 0.05 * torch.randn(800, 16, generator=generator)
    far = torch.randn(800, 16, generator=generator)
    cells = [cells_of(each, options) for each in (states, near, far)]
    itself, nearly, unlike = (npib(cells[0], other) for other in cells)
    assert itself == pytest.approx(1)
    assert itself > nearly > unlike + 0.05
    assert unlike < 0.1


def test_the_last_two_layers_are_merged_again_and_again() -> None:
    bundle = tiny_bundle("qwen3")
    result = come.compress(bundle, TOKENS, "mka", target_layers=4, sample=96, batch_size=4)
    with torch.inference_mode():
        states = bundle.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states
    cells = [cells_of(each.flatten(0, 1), MKAOptions(sample=96)) for each in states[1:]]
    upper, lower = npib(cells[4], cells[5]), npib(cells[3], cells[4])
    assert [(step.window, step.weights) for step in result.plan.steps] == [  # type: ignore[union-attr]
        ((4, 5), pytest.approx([upper, 1 - upper], abs=1e-5)),
        ((3, 4), pytest.approx([lower, 1 - lower], abs=1e-5)),
    ]
    for name, value in result.bundle.layers[3].named_parameters():
        third, fourth, fifth = (bundle.layers[layer].get_parameter(name) for layer in (3, 4, 5))
        expected = lower * third + (1 - lower) * (upper * fourth + (1 - upper) * fifth)
        torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
    assert result.plan.groups() == [[0], [1], [2], [3, 4, 5]]


def test_the_seed_chooses_the_tokens() -> None:
    bundle = tiny_bundle()
    plans = [
        come.compress(bundle, TOKENS, "mka", target_layers=3, sample=40, seed=seed, batch_size=size).plan
        for seed, size in ((0, 6), (0, 2), (1, 6))
    ]
    weights = [[step.weights[0] for step in plan.steps] for plan in plans]  # type: ignore[union-attr]
    assert weights[0] == pytest.approx(weights[1], abs=0.02)
    assert weights[0] != pytest.approx(weights[2], abs=0.001)
