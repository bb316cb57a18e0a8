from __future__ import annotations

import pytest
import torch

from come.measurement.calibrate import batches, calibrate
from come.measurement.hidden_state_cache import HiddenStateCache
from come.measurement.layer_runner import LayerRunner
from come.measurement.statistics import empty_statistics
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle, tiny_tokens


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layers_run_from_a_border_equal_the_full_forward_bit_for_bit(family: str, dtype: torch.dtype) -> None:
    bundle = tiny_bundle(family)
    bundle.model.to(dtype)
    tokens = tiny_tokens(7, 24)  # batches of 4 and 3
    before = weights_hash(bundle.model)
    with torch.inference_mode():
        runner = LayerRunner(bundle)
        borders = HiddenStateCache(6, 32, tokens.numel(), dtype.itemsize, budget=1 << 30)
        calibrate(runner, tokens, empty_statistics(bundle, tokens, [2]), batch_size=4, borders=borders)
        for batch in batches(tokens, 4):
            expected = bundle.model(batch.tokens, use_cache=False).logits
            for start in range(1, 6):
                kept = borders.get(batch.index, start)
                assert kept is not None
                hidden_states = kept
                for layer in range(start, 6):
                    hidden_states = runner.run(layer, hidden_states)
                assert torch.equal(runner.logits(runner.norm(hidden_states)), expected.float())
    assert weights_hash(bundle.model) == before


def test_sliding_windows_are_replayed_too() -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    bundle = tiny_bundle("qwen2", layer_types=kinds, use_sliding_window=True, sliding_window=6)
    tokens = tiny_tokens(3, 24)
    with torch.inference_mode():
        runner = LayerRunner(bundle)
        hidden_states = runner.enter(tokens)
        for layer in range(6):
            hidden_states = runner.run(layer, hidden_states)
        assert torch.equal(runner.logits(runner.norm(hidden_states)), bundle.model(tokens).logits)


@pytest.mark.parametrize("family", ["gemma2", "gemma3_text", "granite", "cohere"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_a_model_does_to_its_logits_is_done(family: str, dtype: torch.dtype) -> None:
    bundle = tiny_bundle(family)
    bundle.model.to(dtype)
    tokens = tiny_tokens(3, 24)
    with torch.inference_mode():
        runner = LayerRunner(bundle)
        normed = bundle.model.model(tokens, use_cache=False).last_hidden_state
        expected = bundle.model(tokens, use_cache=False).logits.float()
        assert torch.equal(runner.logits(normed), expected)
        rows = runner.logits(normed.flatten(0, 1)[5:9])
        torch.testing.assert_close(
            rows, expected.flatten(0, 1)[5:9], rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-2
        )
        plain = bundle.model.lm_head(normed).float()
    assert not torch.allclose(plain, expected, rtol=0.05)
    if family.startswith("gemma"):
        assert expected.abs().max() <= 2.0 < plain.abs().max(), "the soft cap of the tiny model is 2"


def test_the_model_keeps_no_hook_and_no_recorder() -> None:
    bundle = tiny_bundle()
    runner = LayerRunner(bundle)
    calibrate(runner, tiny_tokens(), empty_statistics(bundle, tiny_tokens(), [2]))
    for module in bundle.model.modules():
        assert not module._forward_pre_hooks
        assert not module._forward_hooks
        assert type(module).__name__ != "_Recorder"
