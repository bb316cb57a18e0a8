"""LLM-Streamline: the block it takes, and the layer that it trains."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import come
import come.pruning.methods.streamline
from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models.bundle import Bundle, weights_hash
from come.plan.plan import Plan
from come.plan.steps import Mask, Remove, Replace
from come.pruning.methods.streamline import StreamlineOptions
from come.training.trainer import batch_of, held_out_sequences, learning_rate
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(24, 16)
QUICK: dict[str, Any] = {"steps": 6, "lr": 3e-3, "batch_tokens": 64, "check_every": 2, "precision": "float32"}


@pytest.mark.parametrize("family", CASES)
def test_a_block_becomes_one_trained_layer(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    before = weights_hash(bundle.model)
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, "streamline", target_layers=4, on_step=plans.append, **QUICK)
    assert weights_hash(bundle.model) == before
    removed, replaced = result.plan.steps
    assert isinstance(removed, Remove)
    assert isinstance(replaced, Replace)
    cosines = come.measure(bundle, TOKENS, last_state="raw", similarity=("cosine",)).similarity["cosine"]
    first = int(torch.stack([cosines[layer, layer + 3] for layer in range(4)]).argmax())
    assert removed.layers == [first + 1, first + 2]
    assert all(name.startswith(f"{bundle.family.layers}.{first}.") for name in replaced.tensors)
    result.plan.write(tmp_path / "plan.json")
    again = replay(bundle, Plan.read(tmp_path / "plan.json"))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)
    assert "light layer" in result.plan.notes[-1]
    resumed = come.compress(bundle, TOKENS, "streamline", target_layers=4, done=plans[0], **QUICK)
    assert weights_hash(resumed.bundle.model) == weights_hash(result.bundle.model)


def test_the_light_layer_is_better_than_its_start() -> None:
    bundle = tiny_bundle()
    trained = come.compress(bundle, TOKENS, "streamline", target_layers=4, **QUICK | {"steps": 60})
    removed = come.compress(bundle, TOKENS, "streamline", target_layers=4, **QUICK | {"lr": 1e-12})
    wanted, good, bad = (each.model(TOKENS).logits.detach() for each in (bundle, trained.bundle, removed.bundle))
    assert (good - wanted).norm() < 0.9 * (bad - wanted).norm()


def test_one_sequence_is_too_few() -> None:
    with pytest.raises(ComeError, match="hold out"):
        come.compress(tiny_bundle(), TOKENS[:1], "streamline", target_layers=4)


def trained_by_hand(bundle: Bundle, gone: list[int], names: list[str], mse: bool) -> dict[str, Tensor]:
    """Parameters of the model without some layers, trained slowly: every pass runs the whole model.

    To the hidden states that leave the block that ended with the last of the layers gone, else on the next tokens.
    """
    options = StreamlineOptions(**QUICK)
    whole, model = copy.deepcopy(bundle.model), copy.deepcopy(bundle.model)
    kept = [layer for number, layer in enumerate(model.model.layers) if number not in gone]
    for number, layer in enumerate(kept):
        layer.self_attn.layer_idx = number
    model.model.layers = nn.ModuleList(kept)
    model.config.num_hidden_layers = len(kept)
    known = dict(model.named_parameters())
    parameters = [known[name] for name in names]
    held = held_out_sequences(TOKENS, options)
    seen: dict[str, Tensor] = {}
    whole.model.layers[gone[-1]].register_forward_hook(lambda _m, _i, output: seen.update(wanted=output))
    model.model.layers[gone[0] - 1].register_forward_hook(lambda _m, _i, output: seen.update(made=output))

    def loss(tokens: Tensor) -> Tensor:
        given: Tensor = model(tokens, labels=tokens).loss
        if not mse:
            return given
        with torch.no_grad():
            whole(tokens)
        return nn.functional.mse_loss(seen["made"], seen["wanted"])

    optimizer = torch.optim.AdamW(parameters, lr=options.lr, betas=(0.9, 0.95), weight_decay=0.0)
    best, lowest = [each.detach().clone() for each in parameters], float(loss(TOKENS[-held:]).detach())
    for step in range(6):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, 6, options)
        model.zero_grad()
        loss(TOKENS[batch_of(step, 4, len(TOKENS) - held, 0)]).backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 2 and (now := float(loss(TOKENS[-held:]).detach())) < lowest:
            best, lowest = [each.detach().clone() for each in parameters], now
    return dict(zip(names, best, strict=True))


@pytest.mark.parametrize("objective", ["states", "text"])
@pytest.mark.parametrize("light_layers", [1, 2])
def test_training_is_what_a_plain_loop_over_the_whole_model_does(objective: str, light_layers: int) -> None:
    bundle = tiny_bundle()
    options: dict[str, Any] = {"objective": objective, "light_layers": light_layers, **QUICK}
    result = come.compress(bundle, TOKENS, "streamline", target_layers=4, **options)
    removed, replaced = result.plan.steps
    assert isinstance(removed, Remove)
    assert isinstance(replaced, Replace)
    assert len(removed.layers) == 2
    cosines = come.measure(bundle, TOKENS, last_state="raw", similarity=("cosine",)).similarity["cosine"]
    assert removed.layers[0] == int(cosines.diagonal(2 + light_layers).argmax()) + light_layers
    light = range(removed.layers[0] - light_layers, removed.layers[0])
    names = [name for layer in light for name in replaced.tensors if name.startswith(f"model.layers.{layer}.")]
    assert names == replaced.tensors
    assert len(names) == 9 * light_layers
    wanted = trained_by_hand(bundle, removed.layers, names, objective == "states")
    made = dict(result.bundle.model.named_parameters())
    for name in names:
        torch.testing.assert_close(made[name], wanted[name], rtol=1e-4, atol=1e-6)
    before = dict(bundle.model.named_parameters())
    assert any(not torch.equal(made[name], before[name]) for name in names)


@pytest.mark.parametrize("family", CASES)
def test_an_ffn_sees_no_other_token_in_any_family(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    plans: list[Plan] = []
    options = {"light": "ffn", "objective": "both", **QUICK}
    result = come.compress(bundle, TOKENS, "streamline", target_layers=4, on_step=plans.append, **options)
    removed, silenced, *replaced = result.plan.steps
    assert isinstance(removed, Remove)
    assert isinstance(silenced, Mask)
    light = removed.layers[0] - 1
    assert silenced.kv_groups == {light: list(range(bundle.shape.kv_heads))}
    assert len(replaced) == 2
    attention = bundle.family.attention_paths
    for step in replaced:
        assert isinstance(step, Replace)
        assert not any(path in name for name in step.tensors for path in attention if path != bundle.family.ffn_output)

    runner = LayerRunner(result.bundle)
    states = runner.enter(TOKENS[:1])
    apart = states.roll(1, dims=1)
    apart[:, 7] = states[:, 7]
    with torch.no_grad():
        here, there = (runner.run(light, each)[:, 7] for each in (states, apart))
        given = runner.run(light, states)
    assert torch.equal(here, there)
    assert not torch.allclose(given, states)

    parameters = sum(each.numel() for each in result.bundle.model.parameters())
    assert result.bundle.parameters == parameters - silenced.parameters
    for number, plan in enumerate(plans):
        path = tmp_path / str(number) / "plan.json"
        path.parent.mkdir()
        plan.write(path)
        resumed = come.compress(bundle, TOKENS, "streamline", target_layers=4, done=Plan.read(path), **options)
        assert weights_hash(resumed.bundle.model) == weights_hash(result.bundle.model)
    again = replay(bundle, Plan.read(path))
    assert weights_hash(again.model) == weights_hash(result.bundle.model)
    assert again.parameters == result.bundle.parameters


def test_the_parameters_of_silenced_attention_do_not_count() -> None:
    bundle = tiny_bundle()
    options: dict[str, Any] = {"light": "ffn", "light_layers": 2, **QUICK}
    pruned = come.compress(bundle, TOKENS, "streamline", target_layers=4, **options).bundle
    attention = 32 * 32 + 2 * 32 * 16 + 32 * 32  # queries, keys and values of 4 groups, output
    layer = attention + 3 * 32 * 48 + 2 * 32
    assert pruned.parameters == bundle.parameters - 2 * layer - 2 * attention


def test_an_ffn_starts_at_random_or_as_the_first_layers() -> None:
    bundle = tiny_bundle("gemma2")
    still: dict[str, Any] = {"light": "ffn", **QUICK, "lr": 1e-12}
    random = come.compress(bundle, TOKENS, "streamline", target_layers=4, **still)
    first = come.compress(bundle, TOKENS, "streamline", target_layers=4, start="first", **still)
    made, kept, old = (dict(each.model.named_parameters()) for each in (random.bundle, first.bundle, bundle))
    step = random.plan.steps[-1]
    assert isinstance(step, Replace)
    assert {name.split(".")[3] for name in step.tensors} == {
        "mlp",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    }
    for name in step.tensors:
        torch.testing.assert_close(kept[name], old[name], atol=1e-6, rtol=0)
        if "norm" in name:
            torch.testing.assert_close(made[name], torch.zeros(32), atol=1e-6, rtol=0)  # which is a scale of 1
        else:
            assert float(made[name].detach().std()) == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"light_layers": 3, "target_layers": 2}, "more than the 2"),
        ({"rank": 2, "light": "ffn"}, "Low-rank"),
        ({"rank": 2, "objective": "text"}, "Low-rank"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, "streamline", **{"target_layers": 4} | options)


def test_two_light_layers_take_low_rank_additions() -> None:
    result = come.compress(tiny_bundle(), TOKENS, "streamline", target_layers=4, light_layers=2, rank=2, **QUICK)
    assert len(result.plan.steps[-1].tensors) == 2 * 7  # type: ignore[union-attr]
