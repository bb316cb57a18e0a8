"""Adapters: merged into their base model where it is at hand, else one sentence; never left half attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import IA3Config, LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.models import describe
from tests.folders import as_fp8, edit_json, edit_weights, shard
from tests.tiny import tiny_folder, tiny_tokenizer, tiny_tokens


def adapted(base: Path, folder: Path, config: Any = None) -> torch.Tensor:
    """Save an adapter of a model that changes it much; what the two predict together."""
    config = config or LoraConfig(r=4, target_modules=["q_proj", "down_proj"])
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("lora_B", "modules_to_save", "ia3")):
                parameter.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    return logits(model.eval())


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=tiny_tokens()).logits


CONFIGS = {
    "llama": LoraConfig(r=4, target_modules=["q_proj", "down_proj"]),
    "qwen2": LoraConfig(r=2, target_modules=["k_proj"], use_dora=True),
    "mistral": LoraConfig(r=4, target_modules=["v_proj"], modules_to_save=["lm_head"]),
    "gpt2": LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True),
    "phi3": LoraConfig(r=4, target_modules=["qkv_proj", "gate_up_proj"]),
    "qwen3": IA3Config(target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]),
}


@pytest.mark.parametrize("family", CONFIGS)
def test_an_adapter_is_merged_into_its_base(family: str, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path, family)
    expected = adapted(base, tmp_path / "adapter", CONFIGS[family])
    said: list[str] = []
    bundle = come.load(tmp_path / "adapter", on_progress=lambda event: said.append(event.message))
    assert f"Merging the adapter {tmp_path / 'adapter'} into {base}" in said
    torch.testing.assert_close(logits(bundle.model), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, logits(come.load(base).model), atol=1e-2)
    facts = describe(tmp_path / "adapter")
    assert (facts.supported, facts.parameters) == (True, bundle.parameters) == (True, come.load(base).parameters)
    assert "merged into" in facts.note
    assert not hasattr(bundle.model, "peft_config") and all(each.requires_grad for each in bundle.model.parameters())


def test_a_model_with_its_adapter_merged_is_pruned_and_saved_whole(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    bundle = come.load(tmp_path / "adapter")
    for method in ("shortgpt", "come"):
        result = come.compress(bundle, tiny_tokens(), method=method, target_layers=4)
        saved = come.save(result.bundle, tmp_path / method)
        assert torch.equal(logits(come.load(saved).model), logits(result.bundle.model))
        assert not (saved / "adapter_config.json").exists()
        assert "The adapter adapter was merged into tiny-llama." in (saved / "README.md").read_text()
    again = come.rebuild(tmp_path / "adapter", result.plan)
    assert torch.equal(logits(again.model), logits(result.bundle.model))


def test_a_model_beside_its_own_adapter_has_it_merged(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    shard(folder)
    expected = adapted(folder, folder)
    for told in (str(folder), None, ""):
        edit_json(folder / "adapter_config.json", base_model_name_or_path=told)
        bundle = come.load(folder)
        torch.testing.assert_close(logits(bundle.model), expected, rtol=1e-4, atol=1e-4)
        assert not any("lora" in name for name, _ in bundle.model.named_parameters())


def test_a_model_beside_the_adapter_of_another_is_refused(tmp_path: Path) -> None:
    """It may be the adapter's base, or have the adapter merged already."""
    folder = tiny_folder(tmp_path)
    adapted(folder, folder)
    for base in ("someone/model", str(tiny_folder(tmp_path / "other"))):
        edit_json(folder / "adapter_config.json", base_model_name_or_path=base)
        for look in (come.load, describe):
            with pytest.raises(ComeError, match=r"does not say whether the adapter is merged. Remove adapter_config"):
                look(folder)


def test_the_adapter_of_a_model_in_a_folder_nearby(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    expected = adapted(base, base / "adapter")
    edit_json(base / "adapter" / "adapter_config.json", base_model_name_or_path="..")
    torch.testing.assert_close(logits(come.load(base / "adapter").model), expected, rtol=1e-4, atol=1e-4)


def test_the_adapter_brings_its_own_tokenizer(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    tokenizer = tiny_tokenizer()
    assert come.load(tmp_path / "adapter").tokenizer.chat_template is None
    tokenizer.save_pretrained(tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "tokenizer_config.json", chat_template="{{ messages }}")
    assert come.load(tmp_path / "adapter").tokenizer.chat_template == "{{ messages }}"


def test_a_base_of_8_bit_floats_is_unpacked_first(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    edit_weights(base, as_fp8)
    edit_json(base / "config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16]})
    bundle = come.load(tmp_path / "adapter")
    assert {each.dtype for each in bundle.model.parameters()} == {torch.bfloat16}
    assert not torch.equal(logits(bundle.model), logits(come.load(base).model))


def without_base(folder: Path) -> None:
    edit_json(folder / "adapter_config.json", base_model_name_or_path=None)


def elsewhere(folder: Path) -> None:
    edit_json(folder / "adapter_config.json", base_model_name_or_path="/no/such/folder")


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def damaged(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_base, "holds an adapter, and its base model is not named"),
        (elsewhere, "holds an adapter, and its base model /no/such/folder is not there"),
        (pickled, "has no adapter_model.safetensors, and pickled weights are not loaded"),
        (damaged, "adapter_config.json cannot be read"),
    ],
)
def test_an_adapter_that_cannot_be_merged_is_one_sentence(change: Any, words: str, tmp_path: Path) -> None:
    adapted(tiny_folder(tmp_path), tmp_path / "adapter")
    change(tmp_path / "adapter")
    with pytest.raises(ComeError, match=words):
        come.load(tmp_path / "adapter")
    if change is pickled:
        assert "pickled" in describe(tmp_path / "adapter").reason
    else:
        with pytest.raises(ComeError, match=words):
            describe(tmp_path / "adapter")


def test_a_base_on_the_hub_that_is_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(name: str) -> str:
        raise OSError("We couldn't connect to the hub")

    adapted(tiny_folder(tmp_path), tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path="someone/base")
    monkeypatch.setattr("come.models.source.hub_error", lambda: OSError("no network"))
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: unreachable(""))
    with pytest.raises(ComeError, match="holds an adapter of someone/base, which could not be fetched"):
        come.load(tmp_path / "adapter")


def refused(folder: Path, words: str) -> None:
    """By ``load`` in one sentence before any weights are read, and by ``describe`` in the same words."""
    said: list[str] = []
    with pytest.raises(ComeError, match=words) as error:
        come.load(folder, on_progress=lambda event: said.append(event.message))
    assert not said
    facts = describe(folder)
    assert (facts.supported, facts.reason) == (False, str(error.value))


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    other = tiny_folder(tmp_path / "wider", hidden_size=64)
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(other))
    refused(tmp_path / "adapter", "does not fit its base model")
    fewer = tiny_folder(tmp_path / "fewer", layers=4)
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(fewer))
    refused(tmp_path / "adapter", r"holds 8 weights that its base model has no place for.*layers\.4\.")
    more = tiny_folder(tmp_path / "more", layers=8)
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=str(more))
    refused(tmp_path / "adapter", r"lacks 8 weights, the first: .*layers\.6\.")


def test_an_adapter_that_is_cut_short_is_told_as_that(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    refused(tmp_path / "adapter", "adapter_model.safetensors cannot be read: it is cut short or damaged")


def test_an_adapter_of_another_rank_says_what_does_not_fit(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "adapter_config.json", r=8)
    refused(tmp_path / "adapter", r"does not fit its base model \(size mismatch for .*lora_A")


def test_an_option_that_peft_does_not_know_is_not_left_aside(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "adapter_config.json", twists_twice=True)
    refused(tmp_path / "adapter", r"has an option that the installed peft does not know \(twists_twice\)")
    edit_json(tmp_path / "adapter" / "adapter_config.json", twists_twice=False)
    come.load(tmp_path / "adapter")


@pytest.mark.parametrize("base", [5, ["a"], {"a": 1}])
def test_a_base_that_is_no_name(base: Any, tmp_path: Path) -> None:
    adapted(tiny_folder(tmp_path), tmp_path / "adapter")
    edit_json(tmp_path / "adapter" / "adapter_config.json", base_model_name_or_path=base)
    with pytest.raises(ComeError, match=r"adapter_config\.json cannot be read"):
        come.load(tmp_path / "adapter")


@pytest.mark.parametrize("target", ["embed_tokens", "lm_head"])
def test_an_adapter_of_a_matrix_that_is_used_twice_is_refused(target: str, tmp_path: Path) -> None:
    base = tiny_folder(tmp_path, tie_word_embeddings=True)
    adapted(base, tmp_path / "adapter", LoraConfig(r=2, target_modules=[target]))
    refused(tmp_path / "adapter", "whose matrix its base model uses twice")


def test_an_adapter_that_changes_no_weights_is_refused(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    adapted(base, tmp_path / "adapter", PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4))
    refused(tmp_path / "adapter", "of the kind PREFIX_TUNING, which is no change of weights")
