"""What merging each window costs: the parallel error by hand, the merge as a run of CoMe-Joint makes it, removals."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.steps import Remove
from come.pruning.joint_rules import JointRules
from come.pruning.window_costs import likely_first, window_costs
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_tokens

SEQUENCES, SCORED = 8, 2  # of each eight, a quarter only scores


def divergence(theirs: Tensor, ours: Tensor) -> float:
    """KL(theirs || ours) over all predicted tokens, of logits (sequences, tokens, vocabulary)."""
    original, changed = theirs[:, :-1].float().log_softmax(-1), ours[:, :-1].float().log_softmax(-1)
    return float((original.exp() * (original - changed)).sum(-1).mean())


@torch.inference_mode()
def side_by_side(bundle: Bundle, tokens: Tensor, first: int, last: int) -> Tensor:
    """The logits of a model whose layers ``first`` to ``last`` run in parallel: by hooks on the model itself."""
    entered: dict[str, Tensor] = {}
    outputs: dict[int, Tensor] = {}

    def state(value: object) -> Tensor:
        return value if isinstance(value, Tensor) else value[0]  # type: ignore[index]

    def give_the_same(layer: int):  # type: ignore[no-untyped-def]
        def hook(_module, args, kwargs):  # type: ignore[no-untyped-def]
            if layer == first:
                entered["states"] = args[0].clone()
            return (entered["states"].clone(), *args[1:]), kwargs

        return hook

    def keep(layer: int):  # type: ignore[no-untyped-def]
        def hook(_module, _args, output):  # type: ignore[no-untyped-def]
            outputs[layer] = state(output).clone()
            if layer < last:
                return None
            added = sum(each - entered["states"] for each in outputs.values())
            joined = entered["states"] + added
            return joined if isinstance(output, Tensor) else (joined, *output[1:])

        return hook

    handles = []
    for layer in range(first, last + 1):
        module = bundle.layers[layer]
        handles.append(module.register_forward_pre_hook(give_the_same(layer), with_kwargs=True))
        handles.append(module.register_forward_hook(keep(layer)))
    try:
        return bundle.model(tokens, use_cache=False).logits
    finally:
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("family", CASES)
def test_the_parallel_error_is_that_of_layers_run_side_by_side(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(SEQUENCES, 16)
    with torch.inference_mode():
        original = bundle.model(tokens[-SCORED:], use_cache=False).logits
    for cost in window_costs(bundle, tokens, [(1, 2), (0, 2)]):
        by_hand = side_by_side(bundle, tokens[-SCORED:], cost.first, cost.last)
        assert cost.parallel == pytest.approx(divergence(original, by_hand), rel=1e-3, abs=1e-6)
        assert cost.unit_error == cost.merged - cost.parallel


@pytest.mark.parametrize("family", ["llama", "gemma2", "opt"])
def test_the_whole_is_what_the_merge_of_a_run_costs(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(SEQUENCES, 32)
    for cost in window_costs(bundle, tokens, [(3, 4), (1, 3)]):
        result = come.compress(bundle, tokens, "come-joint", windows=[cost.window], sweep=False)
        assert result.history[0].window == cost.window
        assert come.kl_divergence(result.bundle, bundle, tokens[-SCORED:]) == pytest.approx(cost.merged, rel=1e-4)


def test_other_tokens_score_beside_the_last_ones() -> None:
    bundle, tokens, also = tiny_bundle(), tiny_tokens(SEQUENCES, 32), tiny_tokens(SCORED, 32, seed=9)
    (alone,), (both,) = (window_costs(bundle, tokens, [(2, 3)], also=each) for each in (None, also))
    merged = come.compress(bundle, tokens, "come-joint", windows=[(2, 3)], sweep=False).bundle
    beside = come.kl_divergence(merged, bundle, also)
    assert both.merged == pytest.approx((alone.merged + beside) / 2, rel=1e-4)
    assert beside != pytest.approx(alone.merged, rel=1e-3)


def test_removals_are_those_of_all_layers_but_one() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(SEQUENCES, 32)

    def gone(*layers: int) -> float:
        return come.kl_divergence(apply_step(bundle, Remove(layers=list(layers))), bundle, tokens[-SCORED:])

    pair, longer = window_costs(bundle, tokens, [(2, 3), (1, 4)])
    assert pair.removal == pytest.approx(min(gone(2), gone(3)), rel=1e-4)
    assert pair.stays == (3 if gone(2) < gone(3) else 2)
    assert longer.removal == pytest.approx(gone(*(layer for layer in range(1, 5) if layer != longer.stays)), rel=1e-4)
    # With the least share of freedom, the fit may lose on other tokens, but not by much more than it began with.
    assert 0 < pair.removal_refitted < 2 * pair.removal


def test_windows_come_one_at_a_time_and_leave_the_model_as_it_was() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(SEQUENCES, 32)
    before = weights_hash(bundle.model)
    found = window_costs(bundle, tokens, [(0, 1), (1, 2), (2, 3)])
    assert next(found).window == (0, 1)
    assert next(found).window == (1, 2)
    found.close()
    assert weights_hash(bundle.model) == before


def test_sizes_take_turns_the_likeliest_window_first() -> None:
    influence = torch.tensor([0.9, 0.3, 0.1, 0.2, 0.8])
    windows = likely_first({}, influence, [2, 3, 9])
    assert windows[:4] == [(1, 2), (1, 3), (2, 3), (2, 4)]
    assert len(windows) == 4 + 3


def test_layers_that_do_not_mix_are_left_apart() -> None:
    """The upper half of this one has no rotary table."""
    bundle = tiny_bundle("smollm3")
    assert (2, 3) not in likely_first(bundle, torch.ones(6), [2])
    with pytest.raises(ComeError, match="cannot be merged"):
        next(window_costs(bundle, tiny_tokens(SEQUENCES, 16), [(2, 3)]))


def test_one_sequence_is_refused() -> None:
    with pytest.raises(ComeError, match="no tokens to score on"):
        next(window_costs(tiny_bundle(), tiny_tokens(1, 32), [(0, 1)]))


def test_what_is_measured_is_what_the_method_does_by_default() -> None:
    options = come.methods()["come-joint"].options()
    assert options.rules() == JointRules()  # type: ignore[attr-defined]
    assert options.scores_as_measured  # type: ignore[attr-defined]
    assert not come.methods()["come-joint"].parse({"strengths": [1.0]}).scores_as_measured
