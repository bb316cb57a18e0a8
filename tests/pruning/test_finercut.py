"""FinerCut: the sub-layers that scoring whole models would take out, for the work of the layers above them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.measurement.layer_runner import LayerRunner
from come.models import Bundle
from come.plan.steps import Mask
from come.pruning.methods.finercut import SubLayer, distance, without_waste
from come.transforms.rebuild import apply_step
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


def logits(bundle: Bundle) -> Tensor:
    with torch.inference_mode():
        return bundle.model(TOKENS[:3, :10], use_cache=False).logits.double()


def far(original: Tensor, changed: Tensor, metric: str) -> float:
    if metric == "norm":
        return float((original - changed).square().sum((1, 2)).sqrt().mean())
    if metric == "angular":
        cosines = (original * changed).sum(-1) / (original.norm(dim=-1) * changed.norm(dim=-1))
        return float((cosines.arccos() / math.pi).mean())
    p, q = original.softmax(-1), changed.softmax(-1)
    m = (p + q) / 2
    return float((p * (p / m).log() + q * (q / m).log()).sum(-1).mean() / 2)


def greedy(bundle: Bundle, metric: str, to_go: int) -> list[SubLayer]:
    """What goes when a whole model is scored for every candidate; none is chosen twice."""
    original, gone = logits(bundle), list[SubLayer]()
    everything = [SubLayer(layer, attention) for layer in range(len(bundle.layers)) for attention in (True, False)]
    sizes = {each: each.silenced(bundle).parameters for each in everything}
    while to_go > 0:
        fits = [
            each
            for each in everything
            if each not in gone and not any(sizes[each] - to_go >= sizes[earlier] for earlier in gone)
        ]
        candidates = fits or [each for each in everything if each not in gone]
        scored = {each: far(original, logits(apply_step(bundle, each.silenced(bundle))), metric) for each in candidates}
        gone.append(min(candidates, key=scored.__getitem__))
        bundle = apply_step(bundle, gone[-1].silenced(bundle))
        to_go -= sizes[gone[-1]]
    return gone


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "falcon", "gemma2", "gpt_neox", "glm4", "cohere"])
def test_it_silences_what_scoring_whole_models_would(family: str) -> None:
    bundle = tiny_bundle(family, layers=4)
    for metric in ("norm", "angular", "js") if family == "llama" else ("norm",):
        options = {"metric": metric, "sequences": 3, "seq_len": 10, "batch_size": 2}
        result = come.compress(bundle, TOKENS, "finercut", target_layers=3, **options)
        one_layer = sum(parameter.numel() for parameter in bundle.layers[0].parameters())
        expected = greedy(bundle, metric, one_layer)
        assert result.plan.steps == [each.silenced(bundle) for each in expected]


def test_a_silenced_sub_layer_adds_nothing() -> None:
    bundle = tiny_bundle("granite")
    for each, path in ((SubLayer(2, True), "self_attn"), (SubLayer(2, False), "mlp")):
        silenced = apply_step(bundle, each.silenced(bundle))
        outputs: list[Any] = []
        silenced.layers[2].get_submodule(path).register_forward_hook(lambda _m, _a, output: outputs.append(output))  # noqa: B023
        logits(silenced)
        output = outputs[0][0] if isinstance(outputs[0], tuple) else outputs[0]
        assert not output.any()


def test_only_layers_from_the_candidate_on_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[int] = []
    run = LayerRunner.run

    def counting(self: LayerRunner, layer: int, *args: Any) -> Any:
        ran.append(layer)
        return run(self, layer, *args)

    monkeypatch.setattr(LayerRunner, "run", counting)
    bundle = tiny_bundle(layers=8)
    result = come.compress(bundle, TOKENS, "finercut", target_layers=7, sequences=2)
    first = 8 + 7 + 2 * (8 * 9 // 2)  # the original, the borders, and the layers above each of both candidates
    assert isinstance(result.plan.steps[0], Mask)
    assert len(ran) < first * len(result.plan.steps)


def test_a_removal_that_would_make_another_needless_is_not_taken() -> None:
    attention, ffn, other = SubLayer(0, True), SubLayer(0, False), SubLayer(1, True)
    sizes = {attention: 40, ffn: 100, other: 40}
    assert without_waste([ffn, other], [attention], sizes, to_go=50) == [other], (
        "100 - 50 would do without the first 40"
    )
    assert without_waste([ffn, other], [attention], sizes, to_go=70) == [ffn, other]
    assert without_waste([ffn], [attention], sizes, to_go=50) == [ffn], "there is no other"
    assert without_waste([ffn, other], [], sizes, to_go=1) == [ffn, other]


def test_distances_by_hand() -> None:
    a, b = torch.tensor([[0.0, 3.0], [1.0, 0.0]]), torch.tensor([[4.0, 3.0], [0.0, 1.0]])
    assert float(distance(a, b, "norm")) == pytest.approx(math.sqrt(18))
    assert float(distance(a, b, "angular")) == pytest.approx((math.acos(0.6) / math.pi + 0.5) / 2)
    far_apart = torch.tensor([[100.0, 0.0]]), torch.tensor([[0.0, 100.0]])
    assert float(distance(*far_apart, "js")) == pytest.approx(math.log(2))
    assert float(distance(a, a, "js")) == pytest.approx(0, abs=1e-6)
