"""Configs that contradict themselves: one sentence from ``load`` and ``describe``, none of Transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.models import describe
from tests.folders import edit_json
from tests.tiny import CASES, tiny_bundle, tiny_folder


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ComeError, match=words) as loaded:
        come.load(folder)
    try:
        facts = describe(folder)
        assert not facts.supported and facts.reason == str(loaded.value)
    except ComeError as error:
        assert str(error) == str(loaded.value)


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "opt"])
@pytest.mark.parametrize("padding", [260, 88_888, -400])
def test_a_padding_token_without_an_embedding(family: str, padding: int, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_json(folder / "config.json", pad_token_id=padding)
    refused(folder, rf"says pad_token_id {padding}, and it has embeddings for [\d,]+ tokens. Set pad_token_id")
    edit_json(folder / "config.json", pad_token_id=-1)
    come.load(folder)


@pytest.mark.parametrize("layers", [0, -3])
@pytest.mark.parametrize("family", ["llama", "mistral"])
def test_no_layers(family: str, layers: int, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_json(folder / "config.json", num_hidden_layers=layers)
    refused(folder, rf"says num_hidden_layers {layers}. Put its config.json right")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"hidden_act": "nonsense"}, "names an activation that Transformers has not .'nonsense'."),
        ({"rope_parameters": {"rope_type": "bogus", "rope_theta": 1e4}}, "rotary positions that Transformers has not"),
        ({"rms_norm_eps": float("nan")}, "says rms_norm_eps nan, which is no finite number"),
        ({"num_attention_heads": 3}, r"multiple of|of another shape than its config says"),
        ({"quantization_config": "int4"}, "cannot be read as a model|no description of a method"),
        ({"quantization_config": ["int4"]}, "cannot be read as a model|no description of a method"),
    ],
)
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_what_transformers_has_not(family: str, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family)
    edit_json(folder / "config.json", **changes)
    refused(folder, words)


def test_an_empty_word_on_quantization_is_none(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    edit_json(folder / "config.json", quantization_config={})
    assert come.load(folder).dtype == come.load(tiny_folder(tmp_path / "plain")).dtype
    assert describe(folder).supported


@pytest.mark.parametrize("family", CASES)
def test_all_that_is_made_here_is_plausible(family: str, tmp_path: Path) -> None:
    assert describe(tiny_folder(tmp_path, family)).layers == len(tiny_bundle(family).layers)


def test_what_another_family_calls_its_channels_is_not_gone_by(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "falcon")
    channels = describe(folder).intermediate_size
    edit_json(folder / "config.json", intermediate_size=3 * channels)
    assert describe(folder).intermediate_size == come.load(folder).shape.channels == channels
