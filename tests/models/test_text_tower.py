"""The text part of a multimodal model: the same logits from text, pruned, and saved as a plain text model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText
from typer.testing import CliRunner

import come
from come.cli import app
from come.errors import ComeError
from come.models import FAMILIES, describe
from come.models.offload import is_offloaded
from come.models.text_tower import TOWERS, is_of_another_part, plain_name, text_part
from tests.folders import as_fp8, edit_json, edit_weights
from tests.tiny import tiny_tokenizer, tiny_tokens

TEXT = {
    "vocab_size": 128,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
SEEING = {"hidden_size": 16, "intermediate_size": 16, "patch_size": 8}
SIGHT = {**SEEING, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 16}
QWENS = {**SEEING, "depth": 1, "num_heads": 2, "out_hidden_size": 32}
WRAPPERS: dict[str, dict[str, Any]] = {
    "gemma3": {
        "text_config": {
            **TEXT,
            "head_dim": 8,
            "query_pre_attn_scalar": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention"] * 3 + ["full_attention"] * 3,
            "rope_scaling": {"rope_type": "linear", "factor": 8.0},
        },
        "vision_config": {**SIGHT, "model_type": "siglip_vision_model"},
        "mm_tokens_per_image": 4,
    },
    "mistral3": {
        "text_config": {**TEXT, "model_type": "mistral", "head_dim": 8, "sliding_window": None},
        "vision_config": {**SIGHT, "model_type": "pixtral", "head_dim": 8},
    },
    "qwen2_5_vl": {
        "text_config": {**TEXT, "rope_theta": 5e5, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1]}},
        "vision_config": QWENS,
    },
    "qwen3_vl": {
        "text_config": {
            **TEXT,
            "head_dim": 8,
            "rope_theta": 5e6,
            "rope_scaling": {"rope_type": "default", "mrope_section": [2, 1, 1], "mrope_interleaved": True},
        },
        "vision_config": {**QWENS, "deepstack_visual_indexes": [0]},
    },
}


def wrapper(kind: str, **changes: Any) -> Any:
    """A random multimodal model, biases and norms random too."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **{**WRAPPERS[kind], **changes})
    model = AutoModelForImageTextToText.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight") and kind != "gemma3"
            parameter.copy_((1.0 if is_norm else 0.0) + 0.15 * torch.randn_like(parameter))
    return model


def saved(model: Any, folder: Path, **how: Any) -> Path:
    model.save_pretrained(folder, **how)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def logits(model: Any, tokens: Tensor) -> Tensor:
    with torch.no_grad():
        found: Tensor = model(input_ids=tokens).logits
    return found


def test_every_wrapper_is_tried() -> None:
    assert set(WRAPPERS) == set(TOWERS)
    assert {plain for parts in TOWERS.values() for plain in parts.values()} <= set(FAMILIES)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_it_predicts_what_the_whole_does_from_text(kind: str, tied: bool, tmp_path: Path) -> None:
    whole, tokens = wrapper(kind, tie_word_embeddings=tied), tiny_tokens(3, 40)
    bundle = come.load(saved(whole, tmp_path / kind))
    plain = next(iter(TOWERS[kind].values()))
    assert (bundle.family.name, bundle.model.config.model_type) == (plain, plain)
    assert torch.equal(logits(bundle.model, tokens), logits(whole, tokens))
    assert (bundle.model.lm_head.weight is bundle.model.model.embed_tokens.weight) == tied
    note = f"This is a multimodal model ({kind}). Its text part alone is taken, and saved as a text model ({plain})"
    assert bundle.notes[0].startswith(note)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_it_is_pruned_and_saved_as_a_text_model(kind: str, tmp_path: Path) -> None:
    folder, tokens = saved(wrapper(kind), tmp_path / kind), tiny_tokens()
    bundle = come.load(folder)
    before = bundle.fingerprint
    result = come.compress(bundle, tokens, "come", target_layers=4)
    recovered = come.recover(result.bundle, bundle, tiny_tokens(16, 16), how="refit")
    assert bundle.fingerprint == before
    out = come.save(recovered.bundle, tmp_path / "pruned")
    assert bundle.notes[0] in (out / "README.md").read_text()
    told = json.loads((out / "config.json").read_text())
    assert told["model_type"] == next(iter(TOWERS[kind].values())) and told["num_hidden_layers"] == 4
    assert not [name for name in told if "vision" in name or "mrope" in json.dumps(told[name])]

    model, report = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert not any(report.values()), "plain names, all of them"
    assert torch.equal(logits(model, tokens), logits(recovered.bundle.model, tokens))
    assert come.load(out).notes == ()
    greedy = {"do_sample": False, "max_new_tokens": 12, "min_new_tokens": 12}
    cached, anew = (model.generate(tokens[:1], **greedy, use_cache=use) for use in (True, False))
    assert torch.equal(cached, anew)
    rebuilt = come.rebuild(folder, result.plan)
    assert torch.equal(logits(rebuilt.model, tokens), logits(result.bundle.model, tokens))
    assert rebuilt.notes == result.bundle.notes == bundle.notes


@pytest.mark.parametrize("names", ["old", "new", "sharded"])
@pytest.mark.parametrize("kind", WRAPPERS)
def test_it_is_found_under_whatever_names_it_was_saved(kind: str, names: str, tmp_path: Path) -> None:
    """On the hub are files from before and after Transformers put a ``model.`` in front of the parts."""
    whole, tokens = wrapper(kind, tie_word_embeddings=False), tiny_tokens()
    folder = saved(whole, tmp_path / kind, **({"max_shard_size": "40KB"} if names == "sharded" else {}))
    if names == "sharded":
        assert len(list(folder.glob("*.safetensors"))) > 3
    else:
        state = dict(whole.state_dict())
        if names == "old":
            old = {"model.language_model.": "language_model.model.", "lm_head": "language_model.lm_head", "model.": ""}
            if kind == "qwen2_5_vl":
                old = {"model.language_model.": "model.", "model.visual": "visual"}
            state = {renamed(name, old): weight for name, weight in state.items()}
        save_file(
            {name: weight.clone() for name, weight in state.items()}, folder / "model.safetensors", {"format": "pt"}
        )
    assert torch.equal(logits(come.load(folder).model, tokens), logits(whole, tokens))


def renamed(name: str, prefixes: dict[str, str]) -> str:
    first = next((prefix for prefix in prefixes if name.startswith(prefix)), "")
    return prefixes.get(first, "") + name.removeprefix(first)


def test_a_config_of_before_is_understood(tmp_path: Path) -> None:
    """Qwen2.5-VL's said what concerns the text beside what concerns the pictures."""
    whole, tokens = wrapper("qwen2_5_vl"), tiny_tokens()
    folder = saved(whole, tmp_path / "flat")
    told = json.loads((folder / "config.json").read_text())
    text = {
        name: value for name, value in told.pop("text_config").items() if name not in ("model_type", "rope_parameters")
    }
    rope = {"rope_theta": 5e5, "rope_scaling": {"type": "mrope", "mrope_section": [1, 1]}}
    (folder / "config.json").write_text(json.dumps({**text, **rope, **told}))
    assert torch.equal(logits(come.load(folder).model, tokens), logits(whole, tokens))


@pytest.mark.parametrize("kind", WRAPPERS)
def test_half_precision_and_facts_are_those_of_the_text_part(kind: str, tmp_path: Path) -> None:
    folder = saved(wrapper(kind).bfloat16(), tmp_path / kind)
    bundle, facts = come.load(folder), describe(folder)
    assert bundle.dtype == torch.bfloat16 and facts.dtype == "bfloat16"
    assert facts.supported and facts.parameters == bundle.parameters and facts.layers == 6
    assert facts.note == bundle.notes[0] and facts.model_type == bundle.family.name
    shown = CliRunner().invoke(app, ["models", str(folder)])
    assert shown.exit_code == 0 and f"This is a multimodal model ({kind})" in " ".join(shown.output.split())


def test_weights_of_the_text_part_that_lack_are_not_those_of_other_parts(tmp_path: Path) -> None:
    names = {"vision_tower.a", "model.visual.a", "visual.a", "model.multi_modal_projector.a", "model.vision_tower.a"}
    assert all(map(is_of_another_part, names))
    assert not any(map(is_of_another_part, ("model.layers.0.a", "lm_head.weight", "language_model.model.norm.weight")))
    for kind in WRAPPERS:
        folder = saved(wrapper(kind, tie_word_embeddings=False), tmp_path / kind)
        kept = [name for name in load_file(folder / "model.safetensors") if not is_of_another_part(name)]
        assert sorted(map(plain_name, kept)) == sorted(come.load(folder).model.state_dict())


def test_other_multimodal_models_are_refused(tmp_path: Path) -> None:
    config = AutoConfig.for_model("llava")
    assert text_part(config) is config
    config.save_pretrained(tmp_path)
    assert "llava is a multimodal model" in describe(tmp_path).reason
    with pytest.raises(ComeError, match="text-only model of its family"):
        come.load(tmp_path)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_it_may_lie_partly_outside_of_memory(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    folder = saved(wrapper(kind), tmp_path / kind)
    outside, inside = come.load(folder, device="balanced", max_memory={"cpu": "60KB"}), come.load(folder)
    assert is_offloaded(outside.model) and outside.fingerprint == inside.fingerprint
    assert torch.equal(logits(outside.model, tiny_tokens()), logits(inside.model, tiny_tokens()))
    out = come.save(come.compress(outside, tiny_tokens(), "come", target_layers=4).bundle, tmp_path / "pruned")
    assert (
        come.load(out).fingerprint == come.compress(inside, tiny_tokens(), "come", target_layers=4).bundle.fingerprint
    )


@pytest.mark.parametrize("kind", WRAPPERS)
def test_what_lacks_or_is_too_much_in_the_text_part_is_refused(kind: str, tmp_path: Path) -> None:
    folder = saved(wrapper(kind), tmp_path / kind)
    state = load_file(folder / "model.safetensors")
    some = next(name for name in state if name.endswith("layers.4.mlp.up_proj.weight") and not is_of_another_part(name))
    edit_weights(folder, lambda weights: weights.pop(some))
    with pytest.raises(ComeError, match=r"lacks 1 weight .* the first: model\.layers\.4\.mlp\.up_proj\.weight"):
        come.load(folder)
    assert "lacks 1 weight" in describe(folder).reason
    edit_weights(
        folder, lambda weights: weights.update({some: state[some], some.replace("weight", "bias"): torch.ones(48)})
    )
    with pytest.raises(ComeError, match="holds 1 weight that its config has no place for"):
        come.load(folder)


@pytest.mark.parametrize("kind", WRAPPERS)
def test_a_head_of_its_own_is_kept_whatever_the_config_says(kind: str, tmp_path: Path) -> None:
    whole, tokens = wrapper(kind, tie_word_embeddings=False), tiny_tokens()
    folder = saved(whole, tmp_path / kind)
    edit_json(folder / "config.json", tie_word_embeddings=True)
    bundle = come.load(folder)
    assert torch.equal(logits(bundle.model, tokens), logits(whole, tokens))
    assert describe(folder).parameters == bundle.parameters and not describe(folder).tied_embeddings
    model = AutoModelForCausalLM.from_pretrained(come.save(bundle, tmp_path / "out"))
    assert torch.equal(logits(model, tokens), logits(whole, tokens))


@pytest.mark.parametrize("kind", ["mistral3", "qwen3_vl"])
def test_8_bit_floats_of_a_text_part_are_unpacked(kind: str, tmp_path: Path) -> None:
    folder = saved(wrapper(kind).bfloat16(), tmp_path / kind)
    edit_weights(folder, as_fp8)
    packed = load_file(folder / "model.safetensors")
    fp8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    edit_json(folder / "config.json", quantization_config=fp8)
    bundle, facts = come.load(folder), describe(folder)
    assert facts.supported and "(fp8)" in facts.note and facts.note.startswith("This is a multimodal model")
    assert {each.dtype for each in bundle.model.parameters()} == {torch.bfloat16}
    loaded, seen = bundle.model.state_dict(), 0
    for name in (each for each in packed if f"{each}_scale_inv" in packed and not is_of_another_part(each)):
        scales = packed[f"{name}_scale_inv"].repeat_interleave(16, 0).repeat_interleave(16, 1)
        torch.testing.assert_close(loaded[plain_name(name)], (packed[name].float() * scales).bfloat16())
        seen += 1
    assert seen == 6 * 7
    out = come.save(bundle, tmp_path / "out")
    assert "quantization_config" not in (out / "config.json").read_text()
    plain = AutoModelForCausalLM.from_pretrained(out)
    assert torch.equal(logits(plain, tiny_tokens()), logits(bundle.model, tiny_tokens()))
