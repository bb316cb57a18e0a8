"""GGUF files: what is written is read back by Transformers as the same model with the same tokenizer."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import come
from come.export.gguf_families import BYTES, LAYOUTS, context_length
from come.export.gguf_tokenizer import vocabulary_of
from come.export.gguf_write import write_gguf
from come.models import FAMILIES, Bundle
from come.models.gguf import converted_folder
from tests.export.reread import FAMILIES_WITH_TOKENIZER, NAMED, logits, reread, values, with_own_head
from tests.ggufs import ROWS, TEMPLATE, TEXT, gguf_folder, tokenizer_of
from tests.tiny import tiny_model, tiny_tokens

SPLITS = ("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o")


def test_every_family_that_is_offered_is_tried() -> None:
    assert {family.partition(":")[0] for family, _ in FAMILIES_WITH_TOKENIZER} == set(LAYOUTS) <= set(FAMILIES)


@pytest.mark.parametrize(("family", "kind"), FAMILIES_WITH_TOKENIZER)
def test_transformers_reads_back_the_same_model_and_tokenizer(family: str, kind: str, tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, family, kind)
    path = write_gguf(folder, tmp_path / "model.gguf", "float32")
    ours, theirs = AutoModelForCausalLM.from_pretrained(folder).eval(), reread(path)
    assert sum(each.numel() for each in theirs.parameters()) == sum(each.numel() for each in ours.parameters())
    torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-4, atol=1e-5)
    before, after = (
        AutoTokenizer.from_pretrained(folder),
        AutoTokenizer.from_pretrained(tmp_path, gguf_file=path.name),
    )
    assert after(TEXT).input_ids == before(TEXT).input_ids
    assert after.decode(after(TEXT).input_ids) == before.decode(before(TEXT).input_ids)
    assert (after.eos_token_id, after.chat_template) == (before.eos_token_id, TEMPLATE)


@pytest.mark.parametrize("kind", SPLITS)
def test_a_byte_level_tokenizer_is_told_by_the_name_of_its_split(kind: str) -> None:
    vocabulary = vocabulary_of(tokenizer_of(kind), ROWS)
    assert (vocabulary.model, vocabulary.pre) == ("gpt2", kind)
    assert len(vocabulary.tokens) == len(set(vocabulary.tokens)) == len(vocabulary.types) == ROWS
    told = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert (told["<|im_start|>"], told["<b>"], told["[PAD639]"]) == (3, 4, 5)


def test_the_scores_of_a_sentencepiece_vocabulary_put_the_first_merges_first() -> None:
    vocabulary = vocabulary_of(tokenizer_of("llama"), ROWS)
    score = dict(zip(vocabulary.tokens, vocabulary.scores, strict=True))
    made = [score[first + second] for first, second in vocabulary.merges]
    assert made == sorted(made, reverse=True) and made[0] == 0.0 and made[-1] < -10
    told = dict(zip(vocabulary.tokens, vocabulary.types, strict=True))
    assert (told["<unk>"], told["<s>"], told["<0x0A>"], vocabulary.prefix_space) == (2, 3, 6, True)


def test_a_pruned_model_is_written_with_what_it_is_made_of(tmp_path: Path) -> None:
    bundle = Bundle(tiny_model(vocab_size=ROWS), tokenizer_of("gpt-2"), FAMILIES["llama"], "someone/tiny-llama")
    pruned = come.compress(bundle, tiny_tokens(), target_layers=4).bundle
    folder = come.save(pruned, tmp_path / "folder")
    path = write_gguf(folder, tmp_path / "model.gguf", "float32", "apache-2.0")
    torch.testing.assert_close(logits(reread(path)), logits(pruned.model), rtol=1e-4, atol=1e-5)
    told = values(path)
    assert told["general.architecture"] == "llama" and told["general.license"] == "apache-2.0"
    assert told["general.name"] == "tiny-llama, pruned to 4 layers"
    assert "CoMe" in told["general.description"] and "4 of 6 decoder layers" in told["general.description"]
    assert told["general.base_model.0.repo_url"] == "https://huggingface.co/someone/tiny-llama"
    shape = (
        "block_count",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.head_count_kv",
    )
    assert [told[f"llama.{name}"] for name in shape] == [4, 32, 48, 8, 4]
    assert (told["llama.rope.dimension_count"], told["llama.context_length"], told["llama.vocab_size"]) == (
        4,
        256,
        ROWS,
    )
    assert told["llama.rope.freq_base"] == 10000.0
    assert told["llama.attention.layer_norm_rms_epsilon"] == pytest.approx(pruned.model.config.rms_norm_eps)
    assert told["tokenizer.ggml.eos_token_id"] == tokenizer_of("gpt-2").eos_token_id
    assert come.load(path).shape.layers == 4


@pytest.mark.parametrize("dtype", BYTES)
def test_each_dtype_holds_the_weights_as_well_as_it_can(dtype: str, tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, "qwen2", "qwen2")
    tensors = {each.name: each for each in gguf.GGUFReader(write_gguf(folder, tmp_path / "m.gguf", dtype)).tensors}
    weights = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    kind = {"float32": NAMED.F32, "bfloat16": NAMED.BF16, "float16": NAMED.F16, "q8_0": NAMED.Q8_0}[dtype]
    for name, source in (("attn_output", "self_attn.o_proj"), ("ffn_up", "mlp.up_proj")):
        found = tensors[f"blk.0.{name}.weight"]
        assert found.tensor_type == kind
        wanted = weights[f"model.layers.0.{source}.weight"].numpy()
        worst = float(np.abs(gguf.dequantize(found.data, kind).reshape(wanted.shape) - wanted).max())
        assert worst <= {"float32": 0.0, "bfloat16": 4e-3, "float16": 5e-4, "q8_0": 4e-3}[dtype]
    # Rows of 48 do not divide into blocks of 32; norms and biases are float32 in any file.
    assert tensors["blk.0.ffn_down.weight"].tensor_type == (NAMED.F16 if dtype == "q8_0" else kind)
    assert {tensors[f"blk.0.{name}"].tensor_type for name in ("attn_norm.weight", "attn_q.bias")} == {NAMED.F32}
    assert "output.weight" not in tensors, "the embeddings are the head"


@pytest.mark.parametrize("said", ["tied", "not tied"])
@pytest.mark.parametrize(
    ("family", "kind"), [(family, kind) for family, kind in FAMILIES_WITH_TOKENIZER if family != "gemma2"]
)
def test_a_head_of_its_own_is_in_the_file(family: str, kind: str, said: str, tmp_path: Path) -> None:
    """Transformers takes it where the weights have one, whatever the config says."""
    folder = with_own_head(gguf_folder(tmp_path, family, kind, tie_word_embeddings=said == "tied"))
    ours = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert not torch.equal(ours.lm_head.weight, ours.get_input_embeddings().weight)
    theirs = reread(write_gguf(folder, tmp_path / "model.gguf", "float32"))
    assert torch.equal(theirs.lm_head.weight, ours.lm_head.weight)
    torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "templates",
    [
        {"default": TEMPLATE, "tool_use": "tools: {{ tools }}"},
        {"default": TEMPLATE, "rag": "documents: {{ documents }}", "tool_use": "tools: {{ tools }}"},
        {"tool_use": "tools: {{ tools }}"},
    ],
)
def test_chat_templates_with_names_are_all_in_the_file(templates: dict[str, str], tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, layers=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = templates
    (folder / "chat_template.jinja").unlink()
    tokenizer.save_pretrained(folder)
    told = values(write_gguf(folder, tmp_path / "model.gguf"))
    key = "tokenizer.chat_template"
    assert told.get(key) == templates.get("default")
    assert {name: told[f"{key}.{name}"] for name in told[f"{key}s"]} == {
        name: template for name, template in templates.items() if name != "default"
    }


def test_shards_make_the_same_file(tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path)
    whole = write_gguf(folder, tmp_path / "whole.gguf")
    model, sharded = AutoModelForCausalLM.from_pretrained(folder), tmp_path / "sharded" / folder.name
    model.save_pretrained(sharded, max_shard_size="50KB")
    assert len(list(sharded.glob("*.safetensors"))) > 1
    tokenizer_of("gpt-2").save_pretrained(sharded)
    tensors = [
        {each.name: each.data.tobytes() for each in gguf.GGUFReader(path).tensors}
        for path in (whole, write_gguf(sharded, tmp_path / "shards.gguf"))
    ]
    assert tensors[0] == tensors[1]


def test_files_that_differ_in_the_middle_alone_are_two_models(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    written = []
    for content in (0, 1):
        path.write_bytes(bytes(2 << 20) + bytes([content]) + bytes(2 << 20))
        written.append(converted_folder(path))
    assert written[0] != written[1]
    assert converted_folder(path.rename(tmp_path / "MODEL.gguf")) == written[1]


def test_llama_3_stretches_its_positions_by_a_tensor(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    folder = gguf_folder(tmp_path, head_dim=16, rope_parameters=scaling)
    path = write_gguf(folder, tmp_path / "model.gguf", "float32")
    (factors,) = (each.data for each in gguf.GGUFReader(path).tensors if each.name == "rope_freqs.weight")
    plain = 500.0 ** -(torch.arange(0, 16, 2) / 16)
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    torch.testing.assert_close(plain / torch.from_numpy(factors.copy()), model.model.rotary_emb.inv_freq)
    assert factors[0] == 1.0 and factors[-1] == pytest.approx(8.0)
    theirs = reread(path)  # Transformers leaves the tensor aside; with its own setting the model is the same
    theirs.model.rotary_emb = copy.deepcopy(model.model.rotary_emb)
    tokens = tiny_tokens(2, 200)
    torch.testing.assert_close(logits(theirs, tokens), logits(model, tokens), rtol=1e-4, atol=1e-4)


def test_a_window_that_readers_do_not_know_of_ends_the_context(tmp_path: Path) -> None:
    def context(family: str, **changes: Any) -> int:
        config = tiny_model(family, 4, **changes).config
        return context_length(config, LAYOUTS[config.model_type])

    assert context("mistral") == 256
    assert context("mistral", sliding_window=32) == 32
    assert context("qwen2", sliding_window=32, use_sliding_window=False) == 256
    assert context("gemma2", sliding_window=32) == 256
    kinds = ["sliding_attention", "sliding_attention", "full_attention", "full_attention"]
    assert context("gemma2", sliding_window=32, layer_types=kinds) == 32
