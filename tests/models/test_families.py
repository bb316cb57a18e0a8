from __future__ import annotations

import pytest
from transformers import AutoConfig

from come.errors import ComeError
from come.models import FAMILIES, describe, family_of
from tests.tiny import tiny_bundle


@pytest.mark.parametrize("family", FAMILIES)
def test_every_path_of_a_table_is_there(family: str) -> None:
    bundle = tiny_bundle(family)
    table = bundle.family
    for path in (table.trunk, table.layers, *table.embeddings, table.final_norm, table.head):
        bundle.model.get_submodule(path)
    layer = bundle.layers[0]
    named = {
        *(table.query, table.key, table.value, table.attention_output),
        *(*table.ffn_inputs, table.ffn_output, *table.norms, *table.head_norms),
    }
    with_weights = {name.rpartition(".")[0] for name, _ in layer.named_parameters()}
    assert with_weights == named, "every weight of a layer has its place in the table"


@pytest.mark.parametrize(
    ("model_type", "changes", "words"),
    [
        ("gpt2", {}, "'gpt2' is not supported"),
        ("mixtral", {}, "mixture-of-experts"),
        ("t5", {}, "encoder-decoder"),
        ("opt", {"hidden_size": 64, "word_embed_proj_dim": 32}, "project_out"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(
    model_type: str, changes: dict[str, int], words: str, tmp_path: object
) -> None:
    config = AutoConfig.for_model(model_type, **changes)
    with pytest.raises(ComeError, match=words) as caught:
        family_of(config)
    assert caught.value.hint


def test_an_unsupported_model_is_still_described(tmp_path: object) -> None:
    AutoConfig.for_model("gpt2").save_pretrained(str(tmp_path))
    facts = describe(str(tmp_path))
    assert not facts.supported
    assert "gpt2" in facts.reason
    assert facts.layers == 12
