"""What a saved folder tells readers that are older than Transformers 5, in their words; 5 reads the same as before.

``scripts/old_readers.py`` has such readers themselves read folders of all these kinds.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForCausalLM, AutoTokenizer

import come
from come.models import FAMILIES, Bundle
from come.models.offload import is_offloaded
from scripts.old_readers import make, read
from scripts.reader_cases import Case
from tests.ggufs import ROWS, TEXT, gguf_folder
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_model, tiny_tokens

WITHOUT_ROPE = ("gpt2", "opt")
LLAMA_3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
LONG = {"short_factor": [1.0, 1.1], "long_factor": [2.0, 3.0]}


def saved(bundle: Bundle, folder: Path, name: str = "config.json", dtype: str | None = None) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((come.save(bundle, folder, dtype) / name).read_text("utf-8"))
    return told


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(tiny_tokens() if tokens is None else tokens).logits
    return found


@pytest.mark.parametrize("family", [case for case in CASES if case not in WITHOUT_ROPE])
def test_the_rotary_base_is_an_entry_of_its_own(family: str, tmp_path: Path) -> None:
    parameters: dict[str, Any] = dict(tiny_model(family, 1).config.rope_parameters)
    if "full_attention" in parameters:
        parameters = {kind: {**each, "rope_theta": 5000.0} for kind, each in parameters.items()}
        parameters["full_attention"]["rope_theta"] = 54321.0
    else:
        parameters["rope_theta"] = 54321.0
    bundle = tiny_bundle(family, 2, rope_parameters=parameters)
    told = saved(bundle, tmp_path / "out")
    assert told["rope_theta"] == 54321.0
    assert told.get("rope_local_base_freq") == (5000.0 if family == "gemma3_text" else None)
    assert told.get("rotary_emb_base") == (54321.0 if family.startswith("gpt_neox") else None)
    assert told.get("rotary_pct") == (0.5 if family.startswith("gpt_neox") else None)
    assert told.get("partial_rotary_factor") == parameters.get("partial_rotary_factor")
    assert "rope_scaling" not in told
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert again.config.rope_parameters == bundle.model.config.rope_parameters
    assert torch.equal(logits(again), logits(bundle.model))


@pytest.mark.parametrize("family", WITHOUT_ROPE)
def test_a_model_without_rotary_positions_says_nothing_of_them(family: str, tmp_path: Path) -> None:
    assert not [name for name in saved(tiny_bundle(family, 2), tmp_path / "out") if name.startswith("ro")]


@pytest.mark.parametrize(
    ("family", "parameters", "changes", "scaling"),
    [
        ("llama", {"rope_type": "linear", "factor": 2.0}, {}, {"rope_type": "linear", "factor": 2.0}),
        ("llama", LLAMA_3, {}, LLAMA_3),
        ("qwen2", {"rope_type": "dynamic", "factor": 4.0}, {}, {"rope_type": "dynamic", "factor": 4.0}),
        (
            "qwen2",
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
            {},
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
        ),
        (
            "gpt_neox",
            {"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5},
            {},
            {"rope_type": "linear", "factor": 2.0},
        ),
        # These two are checked field by field there.
        ("olmo2", {"rope_type": "linear", "factor": 2.0}, {}, {"type": "linear", "factor": 2.0}),
        (
            "phi3",
            {"rope_type": "longrope", **LONG},
            {"original_max_position_embeddings": 64},
            {"type": "longrope", **LONG},
        ),
    ],
)
def test_stretched_positions_are_an_entry_of_their_own(
    family: str, parameters: dict[str, Any], changes: dict[str, Any], scaling: dict[str, Any], tmp_path: Path
) -> None:
    bundle = tiny_bundle(family, 2, rope_parameters={**parameters, "rope_theta": 500.0}, **changes)
    told = saved(bundle, tmp_path / "out")
    assert (told["rope_theta"], told["rope_scaling"]) == (500.0, scaling)
    tokens = tiny_tokens(2, 200)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again, tokens), logits(bundle.model, tokens))


def test_stretched_positions_of_the_layers_without_a_window(tmp_path: Path) -> None:
    whole = {"rope_type": "linear", "factor": 8.0, "rope_theta": 500.0}
    local = {"rope_type": "default", "rope_theta": 50.0}
    bundle = tiny_bundle("gemma3_text", 4, rope_parameters={"full_attention": whole, "sliding_attention": local})
    told = saved(bundle, tmp_path / "out")
    assert told["rope_scaling"] == {"rope_type": "linear", "factor": 8.0}
    assert (told["rope_theta"], told["rope_local_base_freq"]) == (500.0, 50.0)
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "out")), logits(bundle.model))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "gpt2", "cohere"])
def test_a_head_of_its_own_is_told_and_stays(family: str, dtype: str, tmp_path: Path) -> None:
    """Where the weights have one: the config may say that the embeddings are the head, and older readers believe it."""
    folder = tiny_folder(tmp_path, family, 2, tie_word_embeddings=True)
    weights = load_file(folder / "model.safetensors")
    head = 0.2 * torch.randn(128, 32, generator=torch.Generator().manual_seed(1))
    save_file(weights | {"lm_head.weight": head}, folder / "model.safetensors", {"format": "pt"})
    told = saved(come.load(folder), tmp_path / "out", dtype=dtype)
    assert (told["tie_word_embeddings"], told["torch_dtype"], told["dtype"]) == (False, dtype, dtype)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(again.lm_head.weight, head.to(again.dtype))
    assert not torch.equal(again.get_input_embeddings().weight, again.lm_head.weight)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_told_whether_the_embeddings_are_the_head(family: str, tied: bool, tmp_path: Path) -> None:
    bundle = tiny_bundle(family, 1, tie_word_embeddings=tied)
    assert saved(bundle, tmp_path / "out")["tie_word_embeddings"] is tied
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again), logits(bundle.model))


@pytest.mark.parametrize("tied", [True, False])
def test_a_model_that_lies_on_disk_tells_it_too(tied: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    folder = tiny_folder(tmp_path, "qwen2", 4, tie_word_embeddings=tied)
    bundle = come.load(folder, "balanced", max_memory={"cpu": "20KB"})
    assert is_offloaded(bundle.model)
    assert saved(bundle, tmp_path / "out")["tie_word_embeddings"] is tied
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.equal(logits(again), logits(AutoModelForCausalLM.from_pretrained(folder)))


@pytest.mark.parametrize(
    ("family", "kind", "declared", "told"),
    [
        ("llama", "llama", "LlamaTokenizer", "LlamaTokenizer"),
        ("llama", "llama", "LlamaTokenizerFast", "LlamaTokenizerFast"),
        ("llama", "llama-bpe", "PreTrainedTokenizerFast", "PreTrainedTokenizerFast"),
        ("llama", "llama-bpe", "TokenizersBackend", "PreTrainedTokenizerFast"),
        ("llama", "gpt-2", "GPT2TokenizerFast", "GPT2TokenizerFast"),
        ("llama", "gpt-2", "LlamaTokenizerFast", "LlamaTokenizerFast"),
        ("qwen2", "qwen2", "Qwen2Tokenizer", "Qwen2Tokenizer"),
        ("qwen3", "qwen2", "Qwen2TokenizerFast", "Qwen2TokenizerFast"),
        ("gemma3_text", "gemma", "GemmaTokenizer", "GemmaTokenizer"),
        ("gpt_neox", "gpt-2", "GPTNeoXTokenizerFast", "GPTNeoXTokenizerFast"),
        ("opt", "gpt-2", "", "PreTrainedTokenizerFast"),
    ],
)
def test_the_class_of_the_source_s_tokenizer_stays(
    family: str, kind: str, declared: str, told: str, tmp_path: Path
) -> None:
    folder = gguf_folder(tmp_path, family, kind, 2)
    path = folder / "tokenizer_config.json"
    entries = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({**entries, "tokenizer_class": declared} if declared else entries), "utf-8")
    bundle = come.load(folder)
    assert saved(bundle, tmp_path / "out", "tokenizer_config.json")["tokenizer_class"] == told
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again(TEXT).input_ids == bundle.tokenizer(TEXT).input_ids
    assert again.backend_tokenizer.to_str() == bundle.tokenizer.backend_tokenizer.to_str()


def test_a_model_whose_source_went_away_has_a_class_that_all_know(tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, "llama", "llama-bpe", 2)
    bundle = come.load(folder)
    folder.rename(tmp_path / "elsewhere")
    assert saved(bundle, tmp_path / "out", "tokenizer_config.json")["tokenizer_class"] == "PreTrainedTokenizerFast"


@pytest.mark.parametrize("ends", [(False, False), (True, False), (True, True)])
def test_it_is_told_what_is_added_to_a_text(ends: tuple[bool, bool], tmp_path: Path) -> None:
    """Older classes add BOS where nothing is said, whatever tokenizer.json holds."""
    tokenizer = AutoTokenizer.from_pretrained(gguf_folder(tmp_path, "llama", "llama-bpe", 1))
    before, after = (["<|im_start|>"] if ends[0] else []), (["<|im_end|>"] if ends[1] else [])
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*before, "$A", *after],
        special_tokens=[(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<|im_start|>", "<|im_end|>")],
    )
    bundle = Bundle(tiny_model("llama", 2, vocab_size=ROWS), tokenizer, FAMILIES["llama"], "tiny")
    told = saved(bundle, tmp_path / "out", "tokenizer_config.json")
    assert (told["add_bos_token"], told["add_eos_token"]) == ends
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("b").input_ids == tokenizer("b").input_ids


def test_more_special_tokens_go_by_their_older_name(tmp_path: Path) -> None:
    """Under the newer name Transformers 4 expects a table, and fails on a list."""
    folder = gguf_folder(tmp_path, "qwen3", "qwen2", 2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_special_tokens({"extra_special_tokens": ["<tool>", "</tool>"]})
    bundle = Bundle(tiny_model("qwen3", 2, vocab_size=ROWS), tokenizer, FAMILIES["qwen3"], "tiny")
    told = saved(bundle, tmp_path / "out", "tokenizer_config.json")
    assert told["additional_special_tokens"] == ["<tool>", "</tool>"] and "extra_special_tokens" not in told
    again = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert again.extra_special_tokens == ["<tool>", "</tool>"]
    assert again("a<tool>b").input_ids == tokenizer("a<tool>b").input_ids


def test_the_card_names_the_versions(tmp_path: Path) -> None:
    card = (come.save(tiny_bundle("llama", 2), tmp_path / "a") / "README.md").read_text("utf-8")
    assert "Saved with Transformers 5." in card and "Transformers 4.55.4" in card and "eager" not in card
    card = (come.save(tiny_bundle("gemma2", 2), tmp_path / "b") / "README.md").read_text("utf-8")
    assert 'attn_implementation="eager"' in card


@pytest.mark.slow
def test_a_reader_of_its_own_finds_what_was_saved_and_nothing_else(tmp_path: Path) -> None:
    case = Case("as it is", "qwen2")
    assert set(make(case, tmp_path / case.name).values()) == {"yes"}
    versions, found = read(sys.executable, tmp_path, [case.name])
    assert versions["transformers"]
    told = found[case.name]
    assert told["model"]["off"] < 1e-4 and "wrong" not in {**told["model"], **told["tokenizer"], **told["gguf"]}
    path = tmp_path / case.name / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"rms_norm_eps": 0.1}), "utf-8")
    path = tmp_path / case.name / "model" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"eos_token": "<b>"}), "utf-8")
    told = read(sys.executable, tmp_path, [case.name])[1][case.name]
    assert told["model"]["off"] > 1e-2 and told["tokenizer"]["wrong"] == "another eos_token"
