"""A .gguf file is converted to the model that it holds, all of it, or refused; nothing else is kept in COME_HOME."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

import come
from come.errors import ComeError
from come.export.gguf_write import write_gguf
from come.models import describe
from come.models.gguf import converted_folder
from tests.folders import edit_gguf, edit_weights
from tests.ggufs import READABLE, gguf_folder
from tests.tiny import tiny_tokens

Tensors = dict[str, np.ndarray]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def written(parent: Path, family: str = "llama", kind: str = "gpt-2", **changes: Any) -> tuple[Path, Path]:
    folder = gguf_folder(parent, family, kind, **changes)
    return folder, write_gguf(folder, parent / "whole.gguf", "float32")


def logits(model: Any, tokens: torch.Tensor | None = None) -> torch.Tensor:
    with torch.inference_mode():
        return model(tiny_tokens() if tokens is None else tokens).logits


def refused(path: Path, words: str) -> None:
    with pytest.raises(ComeError, match=words) as caught:
        come.load(path)
    assert (describe(path).supported, describe(path).reason) == (False, str(caught.value))
    assert not converted_folder(path).exists() and not any(converted_folder(path).parent.glob("*"))


@pytest.mark.parametrize(("family", "kind"), READABLE)
def test_every_family_is_converted_whole(family: str, kind: str, tmp_path: Path) -> None:
    folder, path = written(tmp_path, family, kind)
    before = describe(path)
    bundle = come.load(path)
    torch.testing.assert_close(logits(bundle.model), logits(come.load(folder).model), rtol=1e-4, atol=1e-5)
    after = describe(path)
    assert (before.supported, before.converted, after.supported, after.converted) == (True, False, True, True)
    assert before.parameters == after.parameters == bundle.parameters == describe(folder).parameters
    assert come.load(path).fingerprint == bundle.fingerprint


def rename(old: str, new: str) -> Any:
    return lambda tensors: tensors.update({new: tensors.pop(old)})


def without(part: str) -> Any:
    return lambda tensors: [tensors.pop(name) for name in list(tensors) if part in name]


def with_tensor(name: str) -> Any:
    return lambda tensors: tensors.update({name: np.ones(32, np.float32)})


@pytest.mark.parametrize(
    ("family", "kind", "change", "words"),
    [
        ("llama", "gpt-2", rename("blk.1.ffn_up.weight", "blk.1.ffn_top.weight"), r"lacks 1 weight .*blk\.1\.ffn_up"),
        ("llama", "gpt-2", without("output.weight"), r"lacks 4 weights .*blk\.0\.attn_output\.weight"),
        ("qwen2", "qwen2", without("blk.3."), r"lacks 12 weights .*blk\.3\.attn_k\.bias"),
        ("gpt2", "gpt-2", without("position_embd"), r"lacks 1 weight .*position_embd\.weight"),
        ("llama", "gpt-2", with_tensor("blk.0.attn_q.bias"), r"holds 1 weight that .*blk\.0\.attn_q\.bias"),
        ("qwen3", "qwen2", with_tensor("blk.4.attn_norm.weight"), r"holds 1 weight that .*blk\.4\.attn_norm"),
        ("phi3", "phi3", with_tensor("rope_factors_long.weight"), r"holds 1 weight that .*rope_factors_long"),
    ],
)
def test_a_file_of_other_tensors_is_refused_and_not_kept(
    family: str, kind: str, change: Any, words: str, tmp_path: Path
) -> None:
    _, path = written(tmp_path, family, kind)
    refused(edit_gguf(path, tmp_path / "other.gguf", change), words)


def test_a_tensor_of_another_shape_is_told(tmp_path: Path) -> None:
    def narrower(tensors: Tensors) -> None:
        tensors["blk.2.ffn_up.weight"] = tensors["blk.2.ffn_up.weight"][:40]

    _, path = written(tmp_path)
    with pytest.raises(ComeError, match=r"of another shape.*layers\.2\.mlp\.up_proj\.weight, which is \(40, 32\)"):
        come.load(edit_gguf(path, tmp_path / "other.gguf", narrower))
    assert not any((tmp_path / "home").rglob("config.json"))


@pytest.mark.parametrize("kind", ["yarn", "linear", "longrope"])
def test_positions_that_would_be_forgotten_are_told(kind: str, tmp_path: Path) -> None:
    _, path = written(tmp_path, "qwen2", "qwen2")
    other = edit_gguf(path, tmp_path / "other.gguf", lambda _: None, qwen2__rope__scaling__type=kind)
    for look in (come.load, describe):
        with pytest.raises(ComeError, match=rf"stretches its positions \({kind}\), which is not read from .gguf files"):
            look(other)
    plain = edit_gguf(path, tmp_path / "plain.gguf", lambda _: None, qwen2__rope__scaling__type="none")
    assert come.load(plain).fingerprint == come.load(path).fingerprint


@pytest.mark.parametrize(("factor", "context", "base"), [(8.0, 64, 500.0), (32.0, 48, 10000.0), (4.0, 100, 2000.0)])
def test_llama_3s_positions_are_read_from_their_tensor(
    factor: float, context: int, base: float, tmp_path: Path
) -> None:
    scaling = {
        "rope_type": "llama3",
        "rope_theta": base,
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": context,
    }
    folder, path = written(tmp_path, head_dim=16, rope_parameters=scaling)
    bundle, tokens = come.load(path), tiny_tokens(2, 200)
    rope = bundle.model.config.rope_parameters
    assert {**rope, "factor": round(rope["factor"], 4), "rope_theta": round(rope["rope_theta"], 2)} == scaling
    torch.testing.assert_close(
        logits(bundle.model, tokens), logits(come.load(folder).model, tokens), rtol=1e-4, atol=1e-4
    )
    saved = come.load(come.save(bundle, tmp_path / "saved"))
    assert torch.equal(logits(saved.model, tokens), logits(bundle.model, tokens))


def test_other_factors_of_positions_are_refused(tmp_path: Path) -> None:
    _, path = written(tmp_path, head_dim=16)
    odd = np.array([1, 2, 1, 3, 1, 2, 9, 4], np.float32)
    other = edit_gguf(path, tmp_path / "other.gguf", lambda tensors: tensors.update({"rope_freqs.weight": odd}))
    with pytest.raises(ComeError, match="stretches its positions in a way that is not Llama 3's"):
        come.load(other)


@pytest.mark.parametrize(("family", "kind"), [("qwen2", "qwen2"), ("llama", "gpt-2")])
def test_a_head_that_is_the_embeddings_is_held_once(family: str, kind: str, tmp_path: Path) -> None:
    folder, path = written(tmp_path, family, kind, tie_word_embeddings=True)
    twice = edit_gguf(
        path, tmp_path / "twice.gguf", lambda tensors: tensors.update({"output.weight": tensors["token_embd.weight"]})
    )
    bundle, facts = come.load(twice), describe(twice)
    assert bundle.model.lm_head.weight is bundle.model.model.embed_tokens.weight
    assert (
        (facts.tied_embeddings, facts.parameters) == (True, bundle.parameters) == (True, come.load(folder).parameters)
    )
    assert bundle.fingerprint == come.load(path).fingerprint


@pytest.mark.parametrize(("family", "kind"), [("qwen2", "qwen2"), ("llama", "gpt-2")])
def test_a_head_that_was_rounded_otherwise_stays_and_is_told(family: str, kind: str, tmp_path: Path) -> None:
    """As in files that keep the embeddings in 5 bits and the head in 8: what the file holds is what is loaded."""
    _, path = written(tmp_path, family, kind, tie_word_embeddings=True)

    def finer(tensors: Tensors) -> None:
        tensors["output.weight"] = tensors["token_embd.weight"]
        tensors["token_embd.weight"] = np.round(tensors["token_embd.weight"] * 100) / 100

    other = edit_gguf(path, tmp_path / "other.gguf", finer)
    bundle, facts = come.load(other), describe(other)
    assert (facts.tied_embeddings, facts.parameters) == (False, bundle.parameters)
    assert facts.note.startswith("Its head is the matrix of its embeddings, rounded in another way")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file=other.name, dtype=torch.float32)
    torch.testing.assert_close(logits(bundle.model), logits(theirs), rtol=1e-4, atol=1e-5)


def test_a_head_of_its_own_is_nothing_to_tell_of(tmp_path: Path) -> None:
    _, path = written(tmp_path)
    come.load(path)
    assert (describe(path).tied_embeddings, describe(path).note) == (False, "")


def test_an_adapter_beside_the_file_is_none_of_it(tmp_path: Path) -> None:
    folder, path = written(tmp_path)
    adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(folder), LoraConfig(target_modules=["q_proj"]))
    adapted.save_pretrained(tmp_path)
    assert (tmp_path / "adapter_config.json").is_file()
    bundle = come.load(path)
    assert not any("lora" in name for name, _ in bundle.model.named_parameters())
    torch.testing.assert_close(logits(bundle.model), logits(come.load(folder).model), rtol=1e-4, atol=1e-5)


def test_a_conversion_that_was_badly_written_is_not_kept(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, path = written(tmp_path)
    save_pretrained = PreTrainedModel.save_pretrained

    def badly(model: Any, folder: str, **how: Any) -> None:
        save_pretrained(model, folder, **how)
        edit_weights(Path(folder), lambda weights: weights.pop("model.norm.weight"))

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", badly)
    with pytest.raises(ComeError, match=r"reads back as another one: it lacks 1 weight .*model\.norm\.weight"):
        come.load(path)
    assert not any((home / "models").iterdir())


def test_a_conversion_says_nothing_of_how_the_file_was_packed(tmp_path: Path) -> None:
    folder = gguf_folder(tmp_path, "qwen2", "qwen2")
    path = write_gguf(folder, tmp_path / "small.gguf", "q8_0")
    bundle = come.load(path)
    told = json.loads((converted_folder(path) / "config.json").read_text())
    assert "quantization_config" not in told and bundle.dtype == torch.float32 and not describe(path).note
