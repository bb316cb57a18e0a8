"""The block of lowest angular distance, against distances taken from the hidden states that Transformers reports."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import pytest
import torch

import come
from come.models import Bundle
from come.pruning.methods.deeper import DeeperOptions, angular_distances
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(5, 14)


def hidden_states(bundle: Bundle, last_state: str) -> list[np.ndarray]:
    """H^(0) to H^(L), (sequences, tokens, hidden_size)."""
    seen = []
    norm = bundle.model.get_submodule(bundle.family.final_norm)
    handle = norm.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    with torch.inference_mode():
        states = list(bundle.model(TOKENS, output_hidden_states=True, use_cache=False).hidden_states)
    handle.remove()
    return [each.double().numpy() for each in (states if last_state == "normed" else [*states[:-1], seen[-1]])]


def distances(states: list[np.ndarray], block: int, of: str) -> list[float]:
    """The mean angular distance / pi of every block of layers."""
    found = []
    for below, above in zip(states, states[block:], strict=False):
        cosines = (below * above).sum(-1) / np.linalg.norm(below, axis=-1) / np.linalg.norm(above, axis=-1)
        angles = np.arccos(np.clip(cosines, -1, 1)) / math.pi
        found.append(float((angles[:, -1] if of == "last" else angles).mean()))
    return found


@pytest.mark.parametrize("last_state", ["normed", "raw"])
@pytest.mark.parametrize("family", CASES)
def test_the_block_of_lowest_distance_goes(family: str, last_state: Literal["normed", "raw"]) -> None:
    bundle = tiny_bundle(family)
    states = hidden_states(bundle, last_state)
    cases: list[tuple[Literal["last", "all"], int]] = [("last", 1), ("last", 3), ("all", 2)]
    for of, block in cases:
        options = DeeperOptions(distance_tokens=of, last_state=last_state, batch_size=2)
        expected = distances(states, block, of)
        assert angular_distances(bundle, TOKENS, block, options).tolist() == pytest.approx(expected, abs=1e-4)
        first = int(np.argmin(expected))
        result = come.compress(
            bundle, TOKENS, "deeper", target_layers=6 - block, distance_tokens=of, last_state=last_state
        )
        assert result.plan.groups() == [[layer] for layer in range(6) if not first <= layer < first + block]


def test_the_last_token_is_the_default() -> None:
    assert DeeperOptions().distance_tokens == "last"
