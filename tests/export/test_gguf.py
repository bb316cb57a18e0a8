"""GGUF files: what is written is read back by Transformers as the same model with the same tokenizer."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

import come
from come.errors import ComeError
from come.export.gguf_families import BYTES, LAYOUTS, context_length, why_not
from come.export.gguf_tokenizer import vocabulary_of
from come.export.gguf_write import write_gguf
from come.models import FAMILIES, Bundle
from come.models.gguf import converted_folder
from tests.ggufs import READABLE, ROWS, TEMPLATE, TEXT, gguf_folder, tokenizer_of
from tests.tiny import tiny_folder, tiny_model, tiny_tokens

FAMILIES_WITH_TOKENIZER = [*READABLE, ("llama", "llama")]
SPLITS = ("gpt-2", "smollm", "llama-bpe", "dbrx", "qwen2", "tekken", "gpt-4o")
NAMED = gguf.GGMLQuantizationType


def reread(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32).eval()


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return model(tiny_tokens() if tokens is None else tokens).logits


def values(path: Path) -> dict[str, Any]:
    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


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


def test_a_head_that_a_file_has_no_place_for_is_refused(tmp_path: Path) -> None:
    folder = with_own_head(gguf_folder(tmp_path, "gemma2", "gemma"))
    with pytest.raises(ComeError, match=r"no place for the weight lm_head\.weight"):
        write_gguf(folder, tmp_path / "model.gguf")


def with_own_head(folder: Path) -> Path:
    weights = load_file(folder / "model.safetensors")
    head = 0.2 * torch.randn(ROWS, 32, generator=torch.Generator().manual_seed(1))
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.mark.parametrize(("family", "kind"), [("llama", "gpt-2"), ("qwen2", "qwen2"), ("gpt2", "gpt-2")])
def test_an_index_of_other_shards_beside_the_file_is_not_believed(family: str, kind: str, tmp_path: Path) -> None:
    """Transformers takes model.safetensors where there is one; what an older save left beside it counts for nothing."""
    folder = gguf_folder(tmp_path, family, kind)
    ours = AutoModelForCausalLM.from_pretrained(folder).eval()
    older = tmp_path / "older"
    tiny_model(family, 4, seed=1, vocab_size=ROWS, **({"n_inner": None} if family == "gpt2" else {})).save_pretrained(
        older, max_shard_size="50KB"
    )
    for file in [*older.glob("model-*.safetensors"), older / "model.safetensors.index.json"]:
        file.rename(folder / file.name)
    theirs = reread(write_gguf(folder, tmp_path / "model.gguf", "float32"))
    torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_weights_by_the_names_of_the_trunk_alone_are_taken_as_they_load(family: str, tmp_path: Path) -> None:
    """OpenAI's GPT-2 lies so on the hub; any model does that was saved without its head."""
    folder = gguf_folder(tmp_path, family, tie_word_embeddings=True)
    ours = AutoModelForCausalLM.from_pretrained(folder).eval()
    weights = load_file(folder / "model.safetensors")
    short = {name.partition(".")[2]: weight for name, weight in weights.items()}
    save_file(short, folder / "model.safetensors", {"format": "pt"})
    theirs = reread(write_gguf(folder, tmp_path / "model.gguf", "float32"))
    torch.testing.assert_close(logits(theirs), logits(ours), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "kind"), [("llama", "gpt-2"), ("qwen2", "qwen2")])
def test_an_adapter_beside_the_model_is_never_left_out(family: str, kind: str, tmp_path: Path) -> None:
    """The file holds what load makes of the folder, or there is a sentence."""
    folder, path = gguf_folder(tmp_path, family, kind), tmp_path / "model.gguf"
    wanted = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), wanted).eval()
    adapted.save_pretrained(folder)
    told = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(told | {"base_model_name_or_path": str(folder)}), "utf-8")
    try:
        write_gguf(folder, path, "float32")
    except ComeError:
        assert not path.exists()
    else:
        torch.testing.assert_close(logits(reread(path)), logits(adapted), rtol=1e-4, atol=1e-4)


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


def _nothing(tensor: np.ndarray) -> np.ndarray:
    return np.zeros_like(tensor)


def _shuffled(tensor: np.ndarray) -> np.ndarray:
    return tensor[::-1].copy()


def _one_wrong(tensor: np.ndarray) -> np.ndarray:
    changed = tensor.copy()
    changed.reshape(-1)[-1] = 7
    return changed


@pytest.mark.parametrize("fault", [_nothing, _shuffled, _one_wrong])
@pytest.mark.parametrize("dtype", BYTES)
def test_a_file_that_holds_other_weights_is_told_and_removed(
    dtype: str, fault: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = gguf_folder(tmp_path / "in", layers=1)
    write, matrices = gguf.GGUFWriter.write_tensor_data, iter(range(100))

    def wrongly(self: Any, tensor: np.ndarray, *rest: Any) -> None:
        at_fault = tensor.ndim > 1 and next(matrices) == 2
        write(self, fault(tensor) if at_fault else tensor, *rest)

    monkeypatch.setattr(gguf.GGUFWriter, "write_tensor_data", wrongly)
    with pytest.raises(
        ComeError, match=r"does not hold the model: model\.layers\.0\.\S+ is another one when it is read"
    ):
        write_gguf(folder, tmp_path / "model.gguf", dtype)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("dtype", BYTES)
def test_rounding_of_any_size_is_no_fault(dtype: str, tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, "qwen2", "qwen2", 2)
    weights = load_file(folder / "model.safetensors")
    generator = torch.Generator().manual_seed(0)
    for name, weight in weights.items():  # from what half precision loses to almost what it cannot hold; and nothing
        scales = 10 ** torch.empty_like(weight).uniform_(-9, 3, generator=generator)
        weights[name] = weight * scales * (torch.rand(weight.shape, generator=generator) > 0.1)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert write_gguf(folder, tmp_path / "model.gguf", dtype).is_file()


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


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("olmo2", {}, "OLMo 2 models cannot be written as GGUF here; Llama, Mistral, .* models can"),
        ("glm4", {}, "GLM-4 models cannot"),
        ("cohere", {}, "Cohere Command R models cannot"),
        ("gemma3_text", {}, r"Gemma 3 \(text\) models cannot"),
        ("llama", {"attention_bias": True}, "Llama model has attention_bias = True"),
        ("llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}, "kind 'linear'"),
        ("qwen3", {"head_dim": 16}, "head_dim = 16"),
        ("gemma2", {"final_logit_softcapping": 2.0}, "final_logit_softcapping = 2.0"),
        ("gpt2", {"n_inner": 48}, "n_inner = 48"),
        ("falcon", {}, "num_ln_in_parallel_attn = 2"),
    ],
)
def test_what_readers_would_take_for_another_model_is_refused(
    family: str, changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    folder = gguf_folder(tmp_path / "in", family, layers=2, **changes)
    with pytest.raises(ComeError, match=words) as caught:
        write_gguf(folder, tmp_path / "model.gguf")
    assert caught.value.hint == "Take it as a Transformers folder."
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_other_mistakes_are_one_sentence_and_leave_nothing(tmp_path: Path) -> None:
    folder, path = gguf_folder(tmp_path / "in", layers=2), tmp_path / "model.gguf"
    with pytest.raises(ComeError, match=r"'float8'.*float16, q8_0"):
        write_gguf(folder, path, "float8")
    with pytest.raises(ComeError, match="of the kind WordLevel"):
        write_gguf(tiny_folder(tmp_path / "in"), path)
    with pytest.raises(ComeError, match="embeddings for 300"):
        write_gguf(gguf_folder(tmp_path / "in", "qwen2", "qwen2", layers=2, vocab_size=300), path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    model.model.layers[1].mlp.up_proj.weight.data[0, 0] = 1e6
    model.save_pretrained(folder)
    with pytest.raises(ComeError, match=r"layers\.1\.mlp\.up_proj.* too large for float16. Choose bfloat16"):
        write_gguf(folder, path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ComeError, match="safetensors"):
        write_gguf(folder, path)
    assert [each.name for each in tmp_path.iterdir()] == ["in"]
    path.write_text("mine")
    with pytest.raises(ComeError, match="is there already"):
        write_gguf(folder, path)
    assert path.read_text() == "mine"


def test_the_sentence_names_the_families_that_can() -> None:
    assert all(FAMILIES[name].title in why_not("opt") for name in LAYOUTS)
    assert not any(why_not(name) for name in LAYOUTS)
    assert why_not("bloom").startswith("bloom models cannot")


def test_a_disk_that_fills_up_leaves_no_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    file = write_gguf(gguf_folder(tmp_path), tmp_path / "model.gguf", "float32")

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    with pytest.raises(ComeError, match=r"could not be written to .*models: No space left"):
        come.load(file)
    assert not any((tmp_path / "home" / "models").iterdir())
