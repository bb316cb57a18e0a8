"""Every statistic against its definition, computed the plain way from Transformers' own hidden states."""

from __future__ import annotations

import importlib
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.measurement.statistics import cosine
from come.models import Bundle
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle, tiny_tokens


def plain_hidden_states(bundle: Bundle, tokens: Tensor) -> Tensor:
    """(layers + 1, sequences, tokens, hidden_size), the last one after the final norm."""
    with torch.inference_mode():
        return torch.stack(bundle.model(tokens, output_hidden_states=True).hidden_states)


def plain_inputs(bundle: Bundle, tokens: Tensor, path: str) -> Tensor:
    """What enters the map at ``path`` of each layer, (layers, sequences * tokens, channels)."""
    seen: list[Tensor] = []
    handles = [
        layer.get_submodule(path).register_forward_pre_hook(
            lambda _, args: seen.append(args[0].reshape(-1, args[0].shape[-1]))
        )
        for layer in bundle.layers
    ]
    with torch.inference_mode():
        bundle.model(tokens)
    for handle in handles:
        handle.remove()
    return torch.stack(seen)


@pytest.mark.parametrize("family", CASES)
def test_sensitivity_is_mean_activation_times_column_sum(family: str) -> None:
    bundle, tokens = tiny_bundle(family), tiny_tokens(5, 16)
    before = weights_hash(bundle.model)
    measurement = come.measure(bundle, tokens, batch_size=2)
    assert weights_hash(bundle.model) == before
    for path, found in (
        (bundle.family.ffn_output, measurement.mlp_sensitivity),
        (bundle.family.attention_output, measurement.attention_sensitivity),
    ):
        weights = torch.stack([bundle.family.matrix(layer, path) for layer in bundle.layers])
        expected = plain_inputs(bundle, tokens, path).abs().mean(1) * weights.abs().sum(1)
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)
    shape = bundle.shape
    per_head = measurement.attention_sensitivity.reshape(6, shape.heads, -1).mean(2)
    torch.testing.assert_close(measurement.head_sensitivity, per_head)
    torch.testing.assert_close(measurement.kv_group_sensitivity, per_head.reshape(6, shape.kv_heads, -1).mean(2))


@pytest.mark.parametrize("sbi_tokens", ["all", "last"])
@pytest.mark.parametrize("span", [2, 3, 5])
def test_influences_follow_their_definitions(span: int, sbi_tokens: str) -> None:
    bundle, tokens = tiny_bundle("qwen3"), tiny_tokens(5, 16)
    states = plain_hidden_states(bundle, tokens)
    measurement = come.measure(bundle, tokens, span=span, sbi_tokens=sbi_tokens, batch_size=2)
    cosines = torch.nn.functional.cosine_similarity(states[:-1], states[1:], dim=-1).clamp(0, 1)
    torch.testing.assert_close(measurement.block_influence, (1 - cosines).mean((1, 2)), rtol=1e-5, atol=1e-6)
    angles = torch.nn.functional.cosine_similarity(states[:-span], states[span:], dim=-1).clamp(0, 1).arccos() / math.pi
    if sbi_tokens == "last":
        angles = angles[:, :, -1:]
    torch.testing.assert_close(measurement.skip_influence, angles.mean((1, 2)), rtol=1e-5, atol=1e-6)
    half = [angles[:, :2].mean((1, 2)), angles[:, 2:].mean((1, 2))]
    torch.testing.assert_close(measurement.skip_influence_halves, torch.stack(half), rtol=1e-5, atol=1e-6)


def test_the_last_state_can_be_raw() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens()
    normed, raw = (come.measure(bundle, tokens, last_state=rule) for rule in ("normed", "raw"))
    assert torch.equal(normed.block_influence[:-1], raw.block_influence[:-1])
    assert normed.block_influence[-1] != raw.block_influence[-1]


def test_matrices_follow_their_definitions() -> None:
    bundle, tokens = tiny_bundle(), tiny_tokens(5, 16)
    states = plain_hidden_states(bundle, tokens).flatten(1, 2)
    measurement = come.measure(bundle, tokens, similarity=("cosine", "angular", "cka"), batch_size=2)
    unit = torch.nn.functional.normalize(states, dim=-1)
    cosines = torch.einsum("itd,jtd->tij", unit, unit).clamp(0, 1)
    torch.testing.assert_close(measurement.similarity["cosine"], cosines.mean(0), rtol=1e-5, atol=1e-5)
    off_diagonal = ~torch.eye(7, dtype=torch.bool)
    angles = (cosines.arccos() / math.pi).mean(0)
    torch.testing.assert_close(
        measurement.similarity["angular"][off_diagonal], angles[off_diagonal], rtol=1e-4, atol=1e-5
    )
    assert torch.equal(measurement.similarity["angular"].diagonal(), torch.zeros(7))
    centred = states - states.mean(1, keepdim=True)
    for i, j in ((0, 1), (2, 5), (3, 3)):
        shared = (centred[i].T @ centred[j]).norm() ** 2
        expected = shared / ((centred[i].T @ centred[i]).norm() * (centred[j].T @ centred[j]).norm())
        torch.testing.assert_close(measurement.similarity["cka"][i, j], expected, rtol=1e-4, atol=1e-5)
    assert measurement.cka_tokens == 80


def test_the_matrices_agree_with_the_influences() -> None:
    measurement = come.measure(tiny_bundle(), tiny_tokens(), similarity=("cosine", "angular"))
    diagonal = measurement.similarity["angular"].diagonal(2)
    torch.testing.assert_close(measurement.skip_influence, diagonal, rtol=1e-4, atol=1e-5)


def test_cka_takes_tokens_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("come.measurement.similarity"), "CKA_TOKENS", 7)
    bundle, tokens = tiny_bundle(layers=3), tiny_tokens(5, 16)
    small = come.measure(bundle, tokens, similarity=("cka",), batch_size=2)
    assert small.cka_tokens == 7
    picked = [number * 80 // 7 for number in range(7)]
    states = plain_hidden_states(bundle, tokens).flatten(1, 2)[:, picked]
    centred = states - states.mean(1, keepdim=True)
    expected = (centred[0].T @ centred[3]).norm() ** 2 / (
        (centred[0].T @ centred[0]).norm() * (centred[3].T @ centred[3]).norm()
    )
    torch.testing.assert_close(small.similarity["cka"][0, 3], expected, rtol=1e-4, atol=1e-5)


def test_a_zero_vector_counts_as_half_and_cosines_stay_in_range() -> None:
    a = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [1e-20, 0.0]])
    b = torch.tensor([[-1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 0.0]])
    assert cosine(a, b).tolist() == [0.0, 0.5, 1.0, 0.5]


def test_a_measurement_survives_its_file(tmp_path: Path) -> None:
    measurement = come.measure(tiny_bundle(), tiny_tokens(), similarity=("cosine", "cka"))
    measurement.save(tmp_path / "analysis.safetensors")
    again = come.Measurement.load(tmp_path / "analysis.safetensors")
    assert torch.equal(again.mlp_sensitivity, measurement.mlp_sensitivity)
    assert torch.equal(again.similarity["cka"], measurement.similarity["cka"])
    assert (again.span, again.n_tokens, again.cka_tokens) == (2, 96, 96)
    (tmp_path / "broken").write_bytes(b"nothing")
    with pytest.raises(ComeError, match="no measurement"):
        come.Measurement.load(tmp_path / "broken")


def test_stability_is_told_from_the_halves() -> None:
    tokens = tiny_tokens(4, 16)
    twice = come.measure(tiny_bundle(), torch.cat([tokens, tokens]))
    stability = twice.window_stability()
    assert stability["rank_correlation"] == pytest.approx(1.0)
    assert stability["best_halves"] == [stability["best"]] * 2
    assert torch.equal(twice.channel_stability(), torch.ones(6))
    for halves, correlation in (  # equal values share their mean rank; by Kendall (1945)
        ([[1.0, 2.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0]], 0.9486833),
        ([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], -1.0),
        ([[1.0, 1.0], [1.0, 1.0]], 1.0),
    ):
        ranked = replace(twice, skip_influence_halves=torch.tensor(halves)).window_stability()
        assert ranked["rank_correlation"] == pytest.approx(correlation)
    other = come.measure(tiny_bundle(), tiny_tokens(8, 16))
    assert (other.channel_stability() < 1).any()


def test_one_sequence_is_enough() -> None:
    measurement = come.measure(tiny_bundle(), tiny_tokens(1, 16))
    assert torch.isfinite(measurement.skip_influence_halves).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"span": 1}, "span of 1"),
        ({"span": 7}, "span of 7"),
        ({"sbi_tokens": "first"}, "SBI"),
        ({"last_state": "wet"}, "last state"),
        ({"similarity": ("cosinus",)}, "no similarity"),
    ],
)
def test_impossible_rules_get_one_sentence(options: dict[str, object], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.measure(tiny_bundle(), tiny_tokens(), **options)  # type: ignore[arg-type]
