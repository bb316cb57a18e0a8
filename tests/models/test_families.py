from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from come.errors import ComeError
from come.measurement.layer_runner import LayerRunner
from come.models import FAMILIES, Fused, describe, family_of
from come.models.family import unit_rows
from tests.tiny import CASES, tiny_bundle, tiny_tokens


def test_every_family_has_a_tiny_model() -> None:
    assert {case.partition(":")[0] for case in CASES} == set(FAMILIES)


@pytest.mark.parametrize("family", CASES)
def test_every_path_of_a_table_is_there(family: str) -> None:
    bundle = tiny_bundle(family)
    table = bundle.family
    for path in (table.trunk, table.layers, *table.embeddings, table.final_norm, table.head):
        bundle.model.get_submodule(path)
    named = {*table.attention_paths, *table.ffn_paths, *table.norm_paths}
    with_weights = {name.rpartition(".")[0] for name, _ in bundle.layers[0].named_parameters()}
    assert with_weights <= named, "every weight of a layer has its place in the table"
    assert named - with_weights <= set(table.norm_paths), "only norms may be missing from a variant"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_norm_of_a_table_is_in_some_variant(family: str) -> None:
    found = {
        name.rpartition(".")[0]
        for case in CASES
        if case.partition(":")[0] == family
        for name, _ in tiny_bundle(case, layers=1).layers[0].named_parameters()
    }
    expected = set(FAMILIES[family].norm_paths)
    assert expected <= found


@pytest.mark.parametrize("family", CASES)
def test_a_layer_adds_its_sub_layers_as_the_table_says(family: str) -> None:
    """The output is the input + m * norm(attention) + m * norm(FFN), with the norms and the m of the table."""
    bundle, tokens = tiny_bundle(family), tiny_tokens()
    table, runner = bundle.family, LayerRunner(bundle)
    added: list[Tensor] = []

    def add(path: str, output: Tensor, layer: nn.Module) -> None:
        norm = table.post_norm(path)
        output = output.view(*tokens.shape, -1)
        added.append(table.multiplier(layer) * (layer.get_submodule(norm)(output) if norm else output))

    with torch.inference_mode():
        states = runner.enter(tokens)
        for number, layer in enumerate(runner.layers):
            added.clear()
            handles = [
                layer.get_submodule(path).register_forward_hook(lambda _m, _a, out, p=path, at=layer: add(p, out, at))
                for path in (table.attention_output, table.ffn_output)
            ]
            leaving = runner.run(number, states)
            for handle in handles:
                handle.remove()
            assert len(added) == 2
            assert min(each.abs().max() for each in added) > 1e-3
            torch.testing.assert_close(leaving, states + sum(added))
            states = leaving


@pytest.mark.parametrize("family", CASES)
def test_the_shape_is_that_of_the_weights(family: str) -> None:
    bundle = tiny_bundle(family)
    table, shape, layer = bundle.family, bundle.shape, bundle.layers[0]
    assert table.matrix(layer, table.attention_output).shape == (shape.hidden_size, shape.heads * shape.head_dim)
    assert table.matrix(layer, table.ffn_output).shape == (shape.hidden_size, shape.channels)
    rows = sum(table.matrix(layer, path).shape[0] for path in table.attention_paths[:-1])
    assert rows == (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    assert shape.layers == len(bundle.layers)


def test_rows_of_stacked_and_of_interleaved_weights() -> None:
    stacked = Fused("qkv", ("query", "key", "value"), "stacked")  # two KV groups of two query heads, one row a head
    assert [table.tolist() for table in unit_rows(stacked, 8, 2, 2)] == [[[0, 1], [2, 3]], [[4], [5]], [[6], [7]]]
    by_unit = Fused("qkv", ("query", "key", "value"), "by_unit")
    assert [table.tolist() for table in unit_rows(by_unit, 8, 2, 2)] == [[[0, 1, 2, 3], [4, 5, 6, 7]]]
    assert [table.tolist() for table in unit_rows("plain", 4, 2, 2)] == [[[0, 1], [2, 3]]]
    gate_up = Fused("gate_up", ("gate", "up"), "stacked")
    assert [table.tolist() for table in unit_rows(gate_up, 6, 3)] == [[[0], [1], [2]], [[3], [4], [5]]]


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("bloom", {}, "'bloom' is not supported"),
        ("mixtral", {}, "mixture-of-experts"),
        ("qwen3_moe", {}, "mixture-of-experts"),
        ("gpt_oss", {}, "mixture-of-experts"),
        ("llama4", {}, "mixture-of-experts"),
        ("t5", {}, "encoder-decoder"),
        ("jamba", {}, "mixture-of-experts and a hybrid model: .* joining the channels of its linear_attention layers"),
        ("qwen3_next", {}, "mixture-of-experts and a hybrid model"),
        ("qwen3_5_text", {}, "is a hybrid model: CoMe has no rule for choosing and joining the channels"),
        ("falcon_h1", {}, "channels of its hybrid layers"),
        ("mamba2", {}, "channels of its linear_attention layers"),
        ("qwen3_vl_moe", {}, "qwen3_vl_moe is a mixture-of-experts model: CoMe has no rule for pairing the experts"),
        ("gemma3", {}, r"multimodal .* text-only model of its family \(gemma3_text\)"),
        ("llava", {}, r"multimodal .* its text part \(llama\); it does of gemma3, mistral3, qwen2_5_vl, qwen3_vl"),
        ("mistral3", {"text_config": {"model_type": "ministral3"}}, r"multimodal .* its text part \(ministral3\)"),
        ("gemma3_text", {"use_bidirectional_attention": True}, "both directions"),
        ("opt", {"hidden_size": 64, "word_embed_proj_dim": 32}, "project_out"),
        ("opt", {"word_embed_proj_dim": 768, "do_layer_norm_before": False}, "do_layer_norm_before"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "layer's number"),
        ("gpt2", {"add_cross_attention": True}, "cross-attention"),
        ("falcon", {"alibi": True}, "ALiBi"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(
    model_type: str, changes: dict[str, int], words: str, tmp_path: object
) -> None:
    config = AutoConfig.for_model(model_type, **changes)
    with pytest.raises(ComeError, match=words) as caught:
        family_of(config)
    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_unsupported_model_is_still_described(tmp_path: object) -> None:
    AutoConfig.for_model("bloom", n_layer=12).save_pretrained(str(tmp_path))
    facts = describe(str(tmp_path))
    assert not facts.supported
    assert "bloom" in facts.reason
    assert facts.layers == 12
    AutoConfig.for_model("gemma3").save_pretrained(str(tmp_path))
    assert describe(str(tmp_path)).layers == 26, "of the text part"
