"""Attention in blocks is PyTorch's, on the way there and back; what is not plainly causal is left to PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from come.recovery.vocabulary import VocabularyLoss
from come.recovery.whole_model import WholeModel, WholeOptions
from come.training import attention
from come.training.attention import blockwise_attention, causal_blocks
from come.training.student import own_bundle
from tests.recovery.pruned import TOKENS
from tests.tiny import tiny_bundle

CPU = torch.device("cpu")
Attend = Callable[..., Tensor]


def states(seed: int, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype).requires_grad_()


def in_blocks(output: Tensor) -> bool:
    return "CausalBlocks" in type(output.grad_fn).__name__


def with_gradients(attend: Attend, *inputs: Tensor) -> list[Tensor]:
    """What attention gives, and the gradients of its product with something fixed."""
    output = attend(*inputs)
    weight = states(9, *output.shape).detach().to(output.dtype)
    return [output.detach(), *torch.autograd.grad((output * weight).sum(), inputs)]


@settings(deadline=None, max_examples=40)
@given(
    tokens=st.integers(1, 300),
    heads=st.sampled_from([(1, 1), (4, 4), (6, 2)]),
    channels=st.sampled_from([(4, 4), (16, 16), (16, 8)]),
    scale=st.sampled_from([None, 0.3]),
)
def test_blocks_are_pytorchs_attention(
    tokens: int, heads: tuple[int, int], channels: tuple[int, int], scale: float | None
) -> None:
    query = states(0, 2, heads[0], tokens, channels[0])
    key, value = states(1, 2, heads[1], tokens, channels[0]), states(2, 2, heads[1], tokens, channels[1])
    how: dict[str, Any] = {"is_causal": True, "scale": scale, "enable_gqa": heads[0] != heads[1]}
    ours = with_gradients(partial(causal_blocks, scale=scale), query, key, value)
    theirs = with_gradients(partial(functional.scaled_dot_product_attention, **how), query, key, value)
    for mine, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=2e-5)


def test_the_way_back_is_the_derivative(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "BLOCK", 2)
    inputs = [states(seed, 1, 2, 5, 3, dtype=torch.float64) for seed in range(3)]
    assert torch.autograd.gradcheck(partial(causal_blocks, scale=0.7), inputs, atol=1e-6)


def test_under_autocast_it_is_bfloat16_and_gradients_are_the_inputs_own() -> None:
    inputs = [states(seed, 2, 3, 200, 16) for seed in range(3)]
    attend = partial(functional.scaled_dot_product_attention, is_causal=True)
    exact = with_gradients(attend, *inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16), blockwise_attention(CPU):
        found = with_gradients(attend, *inputs)
        assert in_blocks(attend(*inputs))
    assert [each.dtype for each in found] == [torch.bfloat16, *3 * [torch.float32]]
    for mine, expected in zip(found, exact, strict=True):
        assert float((mine - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"is_causal": False},
        {"attn_mask": torch.ones(8, 8, dtype=torch.bool).tril()},
        {"is_causal": True, "dropout_p": 0.5},
        {"is_causal": True, "of_keys": 12},
    ],
)
def test_all_else_is_left_to_pytorch(how: dict[str, Any]) -> None:
    query, of_keys = states(0, 1, 2, 8, 4), how.get("of_keys", 8)
    key, value = states(1, 1, 2, of_keys, 4), states(2, 1, 2, of_keys, 4)
    how = {name: value for name, value in how.items() if name != "of_keys"}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.manual_seed(0)
        theirs = functional.scaled_dot_product_attention(query, key, value, **how)
        torch.manual_seed(0)
        with blockwise_attention(CPU):
            ours = functional.scaled_dot_product_attention(query, key, value, **how)
    assert torch.equal(ours, theirs) and not in_blocks(ours)


def test_float32_and_other_devices_are_left_to_pytorch() -> None:
    inputs = [states(seed, 1, 1, 4, 4) for seed in range(3)]
    with blockwise_attention(CPU):
        assert not in_blocks(functional.scaled_dot_product_attention(*inputs, is_causal=True))
    with torch.autocast("cpu", dtype=torch.bfloat16), blockwise_attention(torch.device("cuda")):
        assert not in_blocks(functional.scaled_dot_product_attention(*inputs, is_causal=True))


def test_a_layer_that_was_not_kept_is_run_again_in_blocks() -> None:
    """Else what the second run gives would not fit what the first one promised, and PyTorch refuses."""
    found = []
    for again in (False, True):
        student, parameters = own_bundle(tiny_bundle(), lambda name: True)
        options = WholeOptions(precision="bfloat16", gradient_checkpointing=again)
        problem = WholeModel(student, parameters, None, TOKENS, VocabularyLoss(0.0, 1.0), options)
        problem.gradients(torch.arange(6))
        found.append([parameter.grad for parameter in parameters.values()])
    for kept, recomputed in zip(*found, strict=True):
        torch.testing.assert_close(recomputed, kept)
