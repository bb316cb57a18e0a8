"""Layers of different kinds: what mixes, what does not, and what becomes of what does."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models import describe
from come.plan.steps import Concatenate
from come.transforms.compatible import (
    check_mixable,
    check_reach,
    mixable,
    mixable_windows,
    note_for_step,
    note_for_window,
    runs,
)
from come.transforms.concatenate import concatenate
from come.transforms.rebuild import apply_step
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(4, 24)
KINDS = ["sliding_attention", "full_attention"] * 3


def halves(bundle: come.Bundle, window: tuple[int, int]) -> Concatenate:
    """A merge that takes half of the KV groups and of the channels of two layers."""
    groups, channels = range(bundle.shape.kv_heads), range(bundle.shape.channels)
    middle = len(groups) // 2, len(channels) // 2
    return Concatenate(
        window=window,
        ratio=[0.5, 0.5],
        kv_groups=[[*groups[: middle[0]]], [*groups[middle[0] :]]],
        channels=[[*channels[: middle[1]]], [*channels[middle[1] :]]],
    )


@pytest.mark.parametrize("family", CASES)
def test_layers_of_one_kind_always_mix(family: str) -> None:
    bundle = tiny_bundle(family)
    apart = {"gemma3_text": "differ in rotary positions", "smollm3": "others none"}.get(family)
    for first in range(5):
        reason = mixable(bundle, first, first + 1)
        assert reason == mixable(bundle.model.config, first, first + 1)
        assert reason == mixable(bundle.model.config.to_dict(), first, first + 1)
        if first == 2 and apart:  # the runs of the tiny models meet here
            assert reason is not None
            assert apart in reason
            assert "Layers 2 to 3" in reason
        else:
            assert reason is None
    assert mixable_windows(bundle, 6, 3) == ([True, False, False, True] if apart else [True] * 4)
    assert runs(bundle, 6) == ([3, 3] if apart else [6])


def test_a_folder_tells_what_mixes_without_its_weights(tmp_path: Path) -> None:
    facts = describe(tiny_folder(tmp_path, "gemma3_text"))
    assert mixable_windows(facts.config, facts.layers, 2) == [True, True, False, True, True]
    assert runs(facts, facts.layers) == [3, 3]
    check_mixable(facts, [(0, 2), (3, 4)])
    with pytest.raises(ComeError, match="Layers 2 to 3 cannot be merged"):
        check_mixable(facts, [(0, 1), (2, 3)])


def reaches(no_rope_layers: list[int], target: int, span: int, order: random.Random) -> bool:
    """Whether merging windows in some order comes down to the target."""
    layers = list(no_rope_layers)
    while len(layers) > target:
        size = min(span, len(layers) - target + 1)
        fits = [at for at in range(len(layers) - size + 1) if len(set(layers[at : at + size])) == 1]
        if not fits:
            return False
        at = order.choice(fits)
        del layers[at + 1 : at + size]
    return True


@given(st.lists(st.integers(0, 1), min_size=2, max_size=12), st.data())
def test_a_target_is_refused_if_no_order_of_merges_reaches_it(kinds: list[int], data: st.DataObject) -> None:
    config, layers = {"no_rope_layers": kinds}, len(kinds)
    assert sum(runs(config, layers)) == layers
    span, target = data.draw(st.integers(2, min(6, layers))), data.draw(st.integers(1, layers))
    order = random.Random(data.draw(st.integers(0, 99)))
    try:
        check_reach(config, layers, target, span)
    except ComeError as error:
        assert not reaches(kinds, target, span, order)
        fewest = int(error.hint.split()[4])
        assert fewest > target
        check_reach(config, layers, fewest, span)
    else:
        assert reaches(kinds, target, span, order)


def test_equal_rotary_tables_mix_whatever_they_are_called() -> None:
    same = {kind: {"rope_type": "default", "rope_theta": 10_000.0} for kind in ("sliding_attention", "full_attention")}
    bundle = tiny_bundle("gemma3_text", rope_parameters=same, layer_types=KINDS)
    assert mixable(bundle, 0, 5) is None
    assert note_for_window(bundle, 0, 5) is not None
    scaled = {**same, "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 10_000.0}}
    assert mixable(tiny_bundle("gemma3_text", rope_parameters=scaled, layer_types=KINDS), 0, 1) is not None


@pytest.mark.parametrize("family", ["gemma3_text", "smollm3"])
def test_layers_that_do_not_mix_are_refused_but_one_of_them_may_be_taken_whole(family: str) -> None:
    bundle = tiny_bundle(family)
    with pytest.raises(ComeError, match="cannot be merged") as caught:
        apply_step(bundle, halves(bundle, (2, 3)))
    assert "\n" not in str(caught.value)
    groups, channels = list(range(bundle.shape.kv_heads)), list(range(48))
    whole = Concatenate(window=(2, 3), ratio=[0.0, 1.0], kv_groups=[[], groups], channels=[[], channels])
    merged, place = concatenate(bundle, whole)
    assert merged is bundle.layers[3]
    assert place == 3


@pytest.mark.parametrize("family", ["gemma2", "qwen2"])
def test_sliding_and_full_attention_become_full_attention(family: str, tmp_path: Path) -> None:
    changes = {"use_sliding_window": True, "sliding_window": 6} if family == "qwen2" else {}
    bundle = tiny_bundle(family, layer_types=KINDS, **changes)
    assert note_for_window(bundle, 1, 1) is None
    note = note_for_window(bundle, 2, 3)
    assert note is not None
    assert "attends to everything" in note
    assert note_for_step(bundle, halves(bundle, (2, 3))) == note
    groups, channels = list(range(bundle.shape.kv_heads)), list(range(48))
    whole = Concatenate(window=(2, 3), ratio=[1.0, 0.0], kv_groups=[groups, []], channels=[channels, []])
    assert note_for_step(bundle, whole) is None, "nothing is mixed"
    assert apply_step(bundle, whole).model.config.layer_types == [*KINDS[:3], *KINDS[4:]]
    merged = apply_step(bundle, halves(bundle, (2, 3)))
    assert merged.model.config.layer_types == [*KINDS[:2], "full_attention", *KINDS[4:]]
    assert [layer.self_attn.sliding_window for layer in merged.layers] == [6, None, None, 6, None]
    folder = come.save(merged, tmp_path / "out")
    again = AutoModelForCausalLM.from_pretrained(folder)
    with torch.inference_mode():
        expected = merged.model(TOKENS).logits
        assert torch.equal(again(TOKENS).logits, expected)
        runner = LayerRunner(merged)
        hidden_states = runner.enter(TOKENS)
        for layer in range(5):
            hidden_states = runner.run(layer, hidden_states)
        assert torch.equal(runner.logits(runner.norm(hidden_states)), expected)
    outputs = [
        model.generate(TOKENS[:1], max_new_tokens=12, do_sample=False, use_cache=use_cache)
        for model in (again, merged.model)
        for use_cache in (True, False)
    ]
    assert all(torch.equal(outputs[0], output) for output in outputs[1:])


def test_sliding_windows_alone_stay_sliding() -> None:
    bundle = tiny_bundle("gemma3_text")
    merged = apply_step(bundle, halves(bundle, (0, 1)))
    assert merged.model.config.layer_types == ["sliding_attention"] * 2 + ["full_attention"] * 3
    assert note_for_window(bundle, 0, 1) is None


@pytest.mark.parametrize("family", ["gemma3_text", "smollm3"])
@pytest.mark.parametrize("no_repeat", [True, False])
def test_no_window_that_does_not_mix_is_ever_chosen(family: str, no_repeat: bool) -> None:
    bundle = tiny_bundle(family, layers=8)
    groups = come.compress(bundle, TOKENS, target_layers=2, no_repeat=no_repeat).plan.groups()
    assert groups == [[0, 1, 2, 3], [4, 5, 6, 7]]


@pytest.mark.parametrize("family", ["gemma3_text", "smollm3"])
@pytest.mark.parametrize("request_", [{"windows": [(0, 1), (2, 4)]}, {"target_layers": 1}])
def test_what_does_not_mix_is_refused_before_anything_is_run(family: str, request_: dict[str, object]) -> None:
    events: list[object] = []
    with pytest.raises(ComeError) as caught:
        come.compress(tiny_bundle(family), TOKENS, on_progress=events.append, **request_)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert not events


def test_a_plan_tells_where_attention_became_full() -> None:
    result = come.compress(tiny_bundle("gemma2"), TOKENS, windows=[(0, 1), (3, 4)])
    assert sum("attends to everything" in note for note in result.plan.notes) == 2
    assert result.bundle.model.config.layer_types == ["full_attention", *KINDS[2:3], "full_attention", KINDS[5]]


@pytest.mark.parametrize("family", ["gemma3_text", "smollm3"])
def test_a_draft_leaves_apart_what_does_not_mix(family: str) -> None:
    bundle = tiny_bundle(family, layers=8)
    measurement = come.measure(bundle, TOKENS, similarity=("cosine", "angular"))
    windows = come.draft(measurement, target_layers=2, model=bundle)
    assert [(window.first, window.last) for window in windows] == [(0, 3), (4, 7)]
    with pytest.raises(ComeError, match="out of reach"):
        come.draft(measurement, target_layers=1, model=bundle)
    with pytest.raises(ComeError, match="cannot be merged"):
        come.draft(measurement, windows=[(3, 4)], model=bundle)
