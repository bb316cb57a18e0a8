"""Quantized checkpoints: loaded, measured and saved with their weights in full, or refused in a sentence."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.models import describe
from tests.folders import as_fp8, dtypes_of, edit_json, edit_weights, shard
from tests.tiny import tiny_folder, tiny_tokens

FP8: dict[str, Any] = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
GROUPS = {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "type": "int", "strategy": "channel"}}}


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        return model(tiny_tokens()).logits


def fp8_folder(parent: Path, family: str, files: int = 1, **changes: Any) -> Path:
    folder = tiny_folder(parent, family, **changes)
    edit_weights(folder, lambda weights: weights.update({name: each.bfloat16() for name, each in weights.items()}))
    edit_weights(folder, as_fp8)
    edit_json(folder / "config.json", dtype="bfloat16", quantization_config=FP8)
    if files > 1:
        shard(folder, files)
    return folder


def refused(folder: Path, words: str) -> str:
    with pytest.raises(ComeError, match=words) as caught:
        come.load(folder)
    facts = describe(folder)
    assert (facts.supported, facts.reason) == (False, str(caught.value)), "the two agree"
    assert "\n" not in facts.reason and caught.value.hint
    return facts.reason


@pytest.mark.parametrize(("family", "files"), [("llama", 1), ("qwen3", 3), ("mistral", 1), ("gemma2", 2), ("phi3", 1)])
def test_8_bit_floats_are_unpacked_by_their_scales(family: str, files: int, tmp_path: Path) -> None:
    folder = fp8_folder(tmp_path, family)
    packed = load_file(folder / "model.safetensors")
    if files > 1:
        shard(folder, files)
    bundle, facts = come.load(folder), describe(folder)
    assert (facts.supported, facts.dtype, "fp8" in facts.note) == (True, "bfloat16", True)
    assert facts.parameters == bundle.parameters and facts.tied_embeddings == ("gemma" in family)
    assert {each.dtype for each in bundle.model.parameters()} == {torch.bfloat16}
    loaded = bundle.model.state_dict()
    for name in (each for each in packed if f"{each}_scale_inv" in packed):
        rows, columns = packed[name].shape
        scales = packed[f"{name}_scale_inv"].repeat_interleave(16, 0).repeat_interleave(16, 1)[:rows, :columns]
        torch.testing.assert_close(loaded[name], (packed[name].float() * scales).bfloat16())


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_was_measured_is_saved_in_bfloat16_and_reloads(family: str, tmp_path: Path) -> None:
    bundle = come.load(fp8_folder(tmp_path, family, files=2))
    result = come.compress(bundle, tiny_tokens(), method="come", target_layers=4)
    assert torch.isfinite(torch.tensor(come.perplexity(result.bundle, tiny_tokens())))
    for name, pruned in (("whole", bundle), ("pruned", result.bundle)):
        saved = come.save(pruned, tmp_path / name)
        assert dtypes_of(saved / "model.safetensors") == {"BF16"}
        assert "quantization_config" not in (saved / "config.json").read_text()
        plain = AutoModelForCausalLM.from_pretrained(saved)
        assert torch.equal(logits(plain), logits(pruned.model))
        assert describe(saved).supported and not describe(saved).note
    again = come.rebuild(tmp_path / f"tiny-{family}", result.plan)
    assert torch.equal(logits(again.model), logits(result.bundle.model))


def test_another_dtype_is_unpacked_to_on_request(tmp_path: Path) -> None:
    bundle = come.load(fp8_folder(tmp_path, "llama"), dtype="float32")
    assert {each.dtype for each in bundle.model.parameters()} == {torch.float32}
    assert dtypes_of(come.save(bundle, tmp_path / "out") / "model.safetensors") == {"F32"}


@pytest.mark.parametrize("files", [1, 2])
def test_8_bit_floats_without_scales_are_refused(files: int, tmp_path: Path) -> None:
    """As a model is that was saved without them: every weight reads as up to 448."""
    folder = fp8_folder(tmp_path, "llama")
    scales = [name for name in load_file(folder / "model.safetensors") if name.endswith("scale_inv")]
    edit_weights(folder, lambda weights: weights.pop(scales[0]))
    words = r"holds 1 weight in 8 bits without their scales, the first: model\.layers\.0\.mlp\.down_proj"
    refused(folder, words)
    edit_weights(folder, lambda weights: [weights.pop(name) for name in scales[1:]])
    if files > 1:
        shard(folder, files)
    refused(folder, "holds 42 weights in 8 bits without their scales")
    edit_json(folder / "config.json", quantization_config=None)
    refused(folder, "holds 42 weights in 8 bits without their scales")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.complex64])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_weights_that_are_no_floats_are_refused(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)

    def pack(weights: dict[str, torch.Tensor]) -> None:
        for name in [each for each in weights if "mlp" in each and each.endswith("weight")][:2]:
            weights[name] = (100 * weights[name]).to(dtype)

    edit_weights(folder, pack)
    assert "2 weights that are no floats" in refused(folder, "and its config says nothing of quantization")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_a_word_on_8_bit_floats_that_are_none_is_left_aside(family: str, tmp_path: Path) -> None:
    """As a fine-tune in full of a quantized model may leave it behind."""
    folder = tiny_folder(tmp_path, family)
    plain = come.load(folder)
    edit_json(folder / "config.json", quantization_config={"quant_method": "fp8", "weight_block_size": [16, 16]})
    bundle = come.load(folder)
    assert bundle.dtype == plain.dtype and torch.equal(logits(bundle.model), logits(plain.model))
    facts = describe(folder)
    assert facts.supported and "quantized" not in facts.note and facts.dtype == str(plain.dtype).removeprefix("torch.")
    assert torch.equal(logits(come.load(come.save(bundle, tmp_path / "saved")).model), logits(plain.model))


def test_scales_that_the_config_does_not_tell_of_are_refused(tmp_path: Path) -> None:
    folder = fp8_folder(tmp_path, "qwen2")
    edit_json(folder / "config.json", quantization_config=None)
    refused(folder, "holds 42 weights in 8 bits without their scales")


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_blocks_that_end_beyond_a_weight_are_refused(family: str, tmp_path: Path) -> None:
    """48 rows in blocks of 32: Transformers takes them for two blocks of 24."""
    folder = tiny_folder(tmp_path, family)
    edit_weights(folder, lambda weights: as_fp8(weights, block=32))
    edit_json(folder / "config.json", quantization_config={**FP8, "weight_block_size": [32, 32]})
    refused(folder, r"mlp\.\w+\.weight \(\d+, \d+\) in blocks of \(32, 32\) that do not divide it")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("method", ["gptq", "awq", "hqq", "quanto"])
def test_what_transformers_cannot_unpack_is_refused(method: str, family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_json(folder / "config.json", quantization_config={"quant_method": method, "bits": 4, "group_size": 32})
    reason = refused(folder, rf"is quantized \({method}\), and Transformers cannot give its weights in full")
    assert reason.endswith("Choose the model that it was made from, in bfloat16 or float16.")


@pytest.mark.parametrize("told", [{"quant_method": "wonder"}, {"bits": 4}])
def test_an_unknown_way_to_quantize_is_refused(told: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_json(folder / "config.json", quantization_config=told)
    refused(folder, r"quantized in a way that Transformers does not know \((wonder|unnamed)\)")


@pytest.mark.parametrize("told", [{"load_in_4bit": True}, {"load_in_8bit": True}])
@pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed")
def test_bitsandbytes_says_what_is_missing_here(told: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_json(folder / "config.json", quantization_config={"quant_method": "bitsandbytes", **told})
    refused(folder, r"quantized \(bitsandbytes\), and its weights cannot be unpacked on this machine: .*bitsandbytes")


@pytest.mark.parametrize("family", ["llama", "mistral"])
@pytest.mark.skipif(find_spec("compressed_tensors") is not None, reason="compressed-tensors is installed")
def test_compressed_tensors_says_what_is_missing_here(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    told = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": GROUPS}
    edit_json(folder / "config.json", quantization_config=told)
    refused(folder, r"\(compressed-tensors\), and its weights cannot be unpacked .*`pip install compressed-tensors")


@pytest.mark.parametrize("told", [{"quant_method": "fp8"}, {"quant_method": "gptq", "bits": 4}])
def test_an_index_of_a_quantized_model_is_held_to_its_folder_as_well(told: dict[str, Any], tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    shard(folder)
    edit_json(folder / "config.json", quantization_config=told)
    edit_json(folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "../model.safetensors"})
    refused(folder, "which is no .safetensors file of that folder|cannot give its weights in full")


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_bitsandbytes_weights_are_unpacked_where_it_is_installed(family: str, bits: int, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    base = tiny_folder(tmp_path / "base", family, hidden_size=64, intermediate_size=128, dtype="bfloat16")
    told = BitsAndBytesConfig(load_in_4bit=bits == 4, load_in_8bit=bits == 8)
    AutoModelForCausalLM.from_pretrained(base, quantization_config=told).save_pretrained(tmp_path / "packed")
    come.load(base).tokenizer.save_pretrained(tmp_path / "packed")
    bundle, facts = come.load(tmp_path / "packed"), describe(tmp_path / "packed")
    assert (facts.supported, facts.parameters) == (True, bundle.parameters) and "bitsandbytes" in facts.note
    saved_and_close(bundle, come.load(base), tmp_path, 0.35 if bits == 4 else 0.05)


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_compressed_tensors_are_unpacked_where_it_is_installed(family: str, tmp_path: Path) -> None:
    pytest.importorskip("compressed_tensors")
    folder = tiny_folder(tmp_path, family)
    base = come.load(folder, dtype="bfloat16")

    def packed(weights: dict[str, torch.Tensor]) -> None:
        for name in [each for each in weights if ".layers." in each and weights[each].dim() == 2]:
            scale = weights[name].abs().amax(1, keepdim=True) / 127
            weights[f"{name}_scale"] = scale.bfloat16()
            weights[name] = (weights[name] / scale).round().to(torch.int8)

    edit_weights(folder, packed)
    told = {"quant_method": "compressed-tensors", "format": "int-quantized", "config_groups": GROUPS}
    edit_json(
        folder / "config.json",
        dtype="bfloat16",
        quantization_config={**told, "quantization_status": "compressed", "ignore": ["lm_head"]},
    )
    bundle, facts = come.load(folder), describe(folder)
    assert (facts.supported, facts.parameters) == (True, bundle.parameters) and "compressed" in facts.note
    saved_and_close(bundle, base, tmp_path, 0.05)


def saved_and_close(bundle: come.Bundle, base: come.Bundle, folder: Path, tolerance: float) -> None:
    """A model whose weights were unpacked is that which was quantized, but for rounding; and is saved as it is."""
    assert {each.dtype for each in bundle.model.parameters()} == {torch.bfloat16}
    theirs = base.model.state_dict()
    for name, weight in bundle.model.state_dict().items():
        worst = (weight.float() - theirs[name].float()).abs().max() / theirs[name].float().abs().max()
        assert worst < tolerance, name
    saved = come.save(bundle, folder / "saved")
    assert dtypes_of(saved / "model.safetensors") == {"BF16"}
    assert "quantization_config" not in (saved / "config.json").read_text()
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(saved)), logits(bundle.model))
