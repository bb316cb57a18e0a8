"""No weight is made up or dropped: files that are not those of the model that their config describes are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

import come
from come.errors import ComeError
from come.models import describe
from come.models.strict import refuse_another
from tests.folders import Weights, edit_json, edit_weights, shard
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens


def refused(folder: Path, words: str) -> ComeError:
    """What ``load`` says, in the words given; ``describe`` says it too."""
    with pytest.raises(ComeError, match=words) as caught:
        come.load(folder)
    assert "\n" not in str(caught.value) and caught.value.hint
    facts = describe(folder)
    assert (facts.supported, facts.reason) == (False, str(caught.value))
    return caught.value


def without(*parts: str) -> Callable[[Weights], None]:
    def change(weights: Weights) -> None:
        gone = [name for name in weights if any(part in name for part in parts)]
        assert gone
        for name in gone:
            del weights[name]

    return change


@pytest.mark.parametrize(
    ("family", "part", "words"),
    [
        ("llama", "layers.5.", r"lacks 9 weights .*, the first: model\.layers\.5\.input_layernorm\.weight"),
        ("llama", "lm_head", r"lacks 1 weight that .*: lm_head\.weight"),
        ("qwen2", "q_proj.bias", r"lacks 6 weights .*model\.layers\.0\.self_attn\.q_proj\.bias"),
        ("gpt_neox", "final_layer_norm", r"lacks 2 weights .*gpt_neox\.final_layer_norm\.bias"),
        ("opt", "embed_positions", r"lacks 1 weight that .*model\.decoder\.embed_positions\.weight"),
        ("gemma2", "embed_tokens", r"lacks \d weights? .*(lm_head|model\.embed_tokens)\.weight"),
    ],
)
def test_weights_that_the_files_lack_are_not_made_up(family: str, part: str, words: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_weights(folder, without(part))
    assert "whole" in refused(folder, words).hint


@pytest.mark.parametrize("family", ["llama", "phi3", "gpt2"])
def test_a_shard_with_fewer_weights_is_refused(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_weights(folder, without("norm.weight" if family != "gpt2" else "ln_f"))
    shard(folder)
    refused(folder, r"lacks \d+ weights")


@pytest.mark.parametrize(
    ("family", "extra"),
    [("llama", "model.layers.6.mlp.up_proj.weight"), ("mistral", "model.layers.0.self_attn.q_proj.bias")],
)
@pytest.mark.parametrize("files", [1, 3])
def test_weights_that_the_config_has_no_place_for_are_not_dropped(
    family: str, extra: str, files: int, tmp_path: Path
) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_weights(folder, lambda weights: weights.update({extra: torch.ones(32)}))
    if files > 1:
        shard(folder, files)
    refused(folder, f"holds 1 weight that its config has no place for, the first: {extra}")


def test_biases_that_the_config_denies_are_not_dropped(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, attention_bias=True)
    edit_json(folder / "config.json", attention_bias=False)
    refused(folder, r"holds 24 weights .*no place for, the first: model\.layers\.0\.self_attn\.k_proj\.bias")


def test_weights_of_another_shape_are_told_by_name(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "qwen3")
    edit_json(folder / "config.json", intermediate_size=64)
    refused(
        folder, r"holds 18 weights of another shape .*mlp\.down_proj\.weight, which is \(32, 48\) and not \(32, 64\)"
    )


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "base_model.model."])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_names_behind_a_prefix_are_told_as_that(family: str, prefix: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    weights = load_file(folder / "model.safetensors")
    save_file({prefix + name: each for name, each in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    refused(folder, rf"puts '{prefix}' before the names of its weights")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_a_classifier_is_no_language_model(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, tie_word_embeddings=False)
    AutoModelForSequenceClassification.from_pretrained(folder).save_pretrained(folder)
    assert refused(folder, r"lm_head\.weight. It was saved as \w+ForSequenceClassification").hint.startswith("Choose")


@pytest.mark.parametrize(("family", "tied"), [("llama", True), ("gpt2", True), ("opt", True)])
def test_a_tied_model_that_was_saved_without_its_head_class_loads(family: str, tied: bool, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, tie_word_embeddings=tied)
    whole = come.load(folder)
    whole.model.get_submodule(whole.model.base_model_prefix).save_pretrained(folder)
    assert not any(name.startswith("model.") for name in load_file(folder / "model.safetensors")) or family == "opt"
    again = come.load(folder)
    assert again.fingerprint == whole.fingerprint and describe(folder).supported


@pytest.mark.parametrize(
    ("family", "name"),
    [
        ("llama", "model.layers.0.self_attn.rotary_emb.inv_freq"),
        ("gpt_neox", "gpt_neox.layers.0.attention.rotary_emb.inv_freq"),
        ("gpt_neox", "gpt_neox.layers.0.attention.masked_bias"),
        ("gpt2", "transformer.h.0.attn.bias"),
        ("gpt2", "transformer.h.0.attn.masked_bias"),
        ("falcon", "transformer.h.0.self_attention.rotary_emb.inv_freq"),
    ],
)
def test_masks_and_rotary_frequencies_in_old_files_do_no_harm(family: str, name: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    before = come.load(folder).fingerprint
    edit_weights(folder, lambda weights: weights.update({name: torch.ones(4)}))
    assert come.load(folder).fingerprint == before and describe(folder).supported


@pytest.mark.parametrize("family", ["llama", "qwen2"])
@pytest.mark.parametrize("files", [1, 3])
def test_a_head_of_its_own_stays_where_the_config_says_tied(family: str, files: int, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, tie_word_embeddings=True)
    head = 0.2 * torch.randn(128, 32)
    edit_weights(folder, lambda weights: weights.update({"lm_head.weight": head}))
    if files > 1:
        shard(folder, files)
    bundle, facts = come.load(folder), describe(folder)
    assert torch.equal(bundle.model.lm_head.weight, head)
    assert (facts.tied_embeddings, facts.parameters) == (False, bundle.parameters)
    expected = AutoModelForCausalLM.from_pretrained(folder)(tiny_tokens()).logits
    for dtype in (None, "bfloat16"):
        saved = come.load(come.save(bundle, tmp_path / f"saved-{dtype}", dtype), dtype="float32")
        found = saved.model(tiny_tokens()).logits
        torch.testing.assert_close(found, expected, rtol=0, atol=0 if dtype is None else 0.1)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_the_same_head_twice_is_still_tied(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, tie_word_embeddings=True)
    edit_weights(
        folder, lambda weights: weights.update({"lm_head.weight": weights["model.embed_tokens.weight"].clone()})
    )
    bundle = come.load(folder)
    assert bundle.model.lm_head.weight is bundle.model.model.embed_tokens.weight
    assert describe(folder).tied_embeddings and describe(folder).parameters == bundle.parameters


@pytest.mark.parametrize("family", CASES)
def test_whole_folders_of_every_family_load_in_one_file_and_in_several(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, layers=4)
    before = come.load(folder).fingerprint
    shard(folder)
    assert come.load(folder).fingerprint == before and describe(folder).supported


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/hostname", "weights.bin", "sub/weights.safetensors", 5]
)
def test_an_index_names_files_of_its_folder_only(name: Any, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    paths = shard(folder)
    for place in (tmp_path / "outside.safetensors", folder / "weights.bin"):
        shutil.copy(paths[0], place)
    (folder / "sub").mkdir()
    shutil.copy(paths[0], folder / "sub" / "weights.safetensors")
    index = folder / "model.safetensors.index.json"
    places = json.loads(index.read_text())["weight_map"]
    edit_json(index, weight_map={**places, "model.norm.weight": name})
    refused(folder, "which is no .safetensors file of that folder")


def test_a_download_that_was_broken_off_is_told(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    first, second, _ = shard(folder)
    second.unlink()
    refused(folder, r"lacks 1 of the 3 files that its index names, the first: model-00002-of-00003\.safetensors")
    second.write_bytes(first.read_bytes()[:500])
    refused(folder, r"model-00002-of-00003\.safetensors cannot be read: it is cut short")
    second.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 5\n")
    refused(folder, "is a pointer of git-lfs")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": []}')
    refused(folder, "is no index of weights")


def test_a_stale_index_beside_one_file_is_not_gone_by(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    whole = (folder / "model.safetensors").read_bytes()
    before = come.load(folder).fingerprint
    shard(folder)[1].unlink()
    (folder / "model.safetensors").write_bytes(whole)
    assert come.load(folder).fingerprint == before


def test_a_checkpoint_of_several_machines_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    (folder / "model.safetensors").rename(folder / "shard-00001-model-00001-of-00001.safetensors")
    refused(folder, "in pieces of several machines")


def test_a_config_does_not_name_files_of_weights(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_json(folder / "config.json", transformers_weights="adapter_model.bin")
    with pytest.raises(ComeError, match=r"names a file of weights of its own \(adapter_model.bin\)"):
        come.load(folder)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_what_was_written_is_read_again(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    bundle.model.save_pretrained(tmp_path)
    refuse_another(tmp_path, bundle.model)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for change, words in (
        (without("norm" if family != "gpt2" else "ln_"), "it lacks .* weights"),
        (lambda weights: weights.update(odd=torch.ones(2)), "it holds 1 weight that"),
        (lambda weights: weights[max(weights)].view(-1)[0].add_(1e-3), "weight .* is not as it was in memory"),
        (lambda weights: weights.update({max(weights): weights[max(weights)].half()}), "is not as it was in memory"),
    ):
        edit_weights(tmp_path, change)
        with pytest.raises(ComeError, match=f"reads back as another one: .*{words}|reads back.*{words.capitalize()}"):
            refuse_another(tmp_path, bundle.model)
        (tmp_path / "model.safetensors").write_bytes(whole)


def test_nothing_is_kept_of_a_model_that_was_badly_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle()
    save_pretrained = type(bundle.model).save_pretrained

    def badly(model: Any, folder: Path, **how: Any) -> None:
        save_pretrained(model, folder, **how)
        edit_weights(folder, without("layers.2."))

    monkeypatch.setattr(type(bundle.model), "save_pretrained", badly)
    with pytest.raises(ComeError, match=r"reads back as another one: it lacks 9 weights .*model\.layers\.2\."):
        come.save(bundle, tmp_path / "out")
    assert not list(tmp_path.iterdir())
