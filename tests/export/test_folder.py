from __future__ import annotations

import errno
import os
from collections import namedtuple
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import come
from come.errors import ComeError
from come.export.card import model_card
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle, tiny_tokens


@pytest.mark.parametrize("family", CASES)
def test_a_saved_model_loads_and_generates_in_plain_transformers(family: str, tmp_path: Path) -> None:
    bundle = tiny_bundle(family)
    result = come.compress(bundle, tiny_tokens(), target_layers=4)
    folder = come.save(result.bundle, tmp_path / "out")
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert weights_hash(model) == weights_hash(result.bundle.model)
    assert model.config.num_hidden_layers == 4
    prompt = tiny_tokens(1, 8)
    outputs = [
        each.generate(prompt, max_new_tokens=12, do_sample=False, use_cache=use_cache)
        for each in (model, result.bundle.model)
        for use_cache in (True, False)
    ]
    for output in outputs[1:]:
        assert torch.equal(outputs[0], output)
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == bundle.tokenizer.get_vocab()
    assert come.Plan.read(folder / "plan.json") == result.plan


def test_mixed_layer_kinds_survive_saving(tmp_path: Path) -> None:
    kinds = ["sliding_attention", "full_attention"] * 3
    bundle = tiny_bundle("qwen2", layers=6, layer_types=kinds, use_sliding_window=True, sliding_window=6)
    result = come.compress(bundle, tiny_tokens(), windows=[(0, 1), (4, 5)])
    assert result.bundle.model.config.layer_types == [
        "full_attention",
        "sliding_attention",
        "full_attention",
        "full_attention",
    ]
    model = AutoModelForCausalLM.from_pretrained(come.save(result.bundle, tmp_path / "out"))
    tokens = tiny_tokens()
    with torch.inference_mode():
        assert torch.equal(model(tokens).logits, result.bundle.model(tokens).logits)


def test_saving_in_bfloat16_leaves_the_bundle_alone(tmp_path: Path) -> None:
    bundle = tiny_bundle("qwen2")
    before = weights_hash(bundle.model)
    folder = come.save(bundle, tmp_path / "half", dtype="bfloat16")
    assert weights_hash(bundle.model) == before
    assert bundle.dtype == torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.lm_head.weight is model.model.embed_tokens.weight
    sizes = [
        sum(file.stat().st_size for file in path.glob("*.safetensors"))
        for path in (folder, come.save(bundle, tmp_path / "whole"))
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_weights_that_a_dtype_cannot_hold_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    bundle.model.model.layers[2].mlp.up_proj.weight.data[3, 1] = -70_000
    with pytest.raises(ComeError, match=r"too large for float16. Save it in bfloat16"):
        come.save(bundle, tmp_path / "half", dtype="float16")
    assert not list(tmp_path.iterdir())
    come.save(bundle, tmp_path / "half", dtype="bfloat16")
    small = tiny_bundle()
    small.model.model.layers[2].mlp.up_proj.weight.data.mul_(1e-8)
    with pytest.raises(ComeError, match=r"too small for float16"):
        come.save(small, tmp_path / "small", dtype="float16")
    huge = tiny_bundle()
    huge.model.model.layers[2].mlp.up_proj.weight.data.mul_(1e30)
    with pytest.raises(ComeError, match=r"too large for float16"):
        come.save(huge, tmp_path / "huge", dtype="float16")


def test_the_card_tells_base_method_plan_text_and_perplexities(tmp_path: Path) -> None:
    result = come.compress(tiny_bundle(), tiny_tokens(), target_layers=5)
    results = {
        "calibration": {"text": "python-docs"},
        "original": {"perplexity": 12.5, "layers": 6, "parameters": 100},
        "pruned": {"perplexity": 20.25, "layers": 5, "parameters": 80},
    }
    card = (come.save(result.bundle, tmp_path / "out", results=results) / "README.md").read_text()
    for words in ("tiny-llama", "`come`", "Concatenate layers", "python-docs", "12.50", "20.25", "arXiv 2510.15304"):
        assert words in card


@pytest.mark.parametrize("name", ["come", "shortgpt", "random"])
def test_the_card_ends_with_the_method_that_made_the_model(name: str) -> None:
    result = come.compress(tiny_bundle(), tiny_tokens(), name, target_layers=5)
    result.bundle.plan = result.plan.with_note("A note.")
    card, method = model_card(result.bundle), come.methods()[name]
    ending = f"\n- A note.\n\n## Method\n\n- {method.title}: {method.summary}\n"
    assert card.endswith(ending + (f"- paper: {method.paper}\n" if method.paper else ""))


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(ComeError, match="not empty"):
        come.save(tiny_bundle(layers=2), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_no_space_is_said_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _path: usage(1, 1, 10))
    with pytest.raises(ComeError, match=r"has 10 B free"):
        come.save(tiny_bundle(layers=2), tmp_path / "out")
    assert not any(tmp_path.iterdir())


def test_a_disk_that_fills_up_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tiny_bundle(layers=2)

    def full(folder: Path, **_: object) -> None:
        Path(folder).mkdir()
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundle.model, "save_pretrained", full)
    with pytest.raises(ComeError, match="No space left"):
        come.save(bundle, tmp_path / "out")
    assert not any(tmp_path.iterdir())
