"""What a GGUF file has no place for is refused, what came out wrong is removed, what lies beside is not believed."""

from __future__ import annotations

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
from transformers import AutoModelForCausalLM, PreTrainedModel

import come
from come.errors import ComeError
from come.export.gguf_families import BYTES, LAYOUTS, why_not
from come.export.gguf_write import write_gguf
from come.models import FAMILIES
from tests.export.reread import logits, reread, with_own_head
from tests.ggufs import ROWS, gguf_folder
from tests.tiny import tiny_folder, tiny_model


def test_a_head_that_a_file_has_no_place_for_is_refused(tmp_path: Path) -> None:
    folder = with_own_head(gguf_folder(tmp_path, "gemma2", "gemma"))
    with pytest.raises(ComeError, match=r"no place for the weight lm_head\.weight"):
        write_gguf(folder, tmp_path / "model.gguf")


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
