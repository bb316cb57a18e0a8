"""Growing, held against plain models built by hand, and against pruning back what was grown."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import come
from come.errors import ComeError
from come.growing import grow, growths
from come.models import Bundle
from come.models.bundle import weights_hash
from tests.tiny import CASES, tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(2, 24)


def logits(bundle: Bundle) -> torch.Tensor:
    with torch.inference_mode():
        return bundle.model(TOKENS).logits  # type: ignore[no-any-return]


def by_hand(bundle: Bundle, order: list[int]) -> torch.Tensor:
    """Logits of the model with its own layers run in another order, some of them more than once."""
    model = copy.deepcopy(bundle.model)
    layers = model.get_submodule(bundle.family.layers)
    chosen = [layers[number] for number in order]
    model.set_submodule(bundle.family.layers, torch.nn.ModuleList(chosen))
    for name in ("layer_types", "no_rope_layers"):
        if (kinds := getattr(model.config, name, None)) is not None:
            setattr(model.config, name, [kinds[number] for number in order])
    model.config.num_hidden_layers = len(order)
    with torch.inference_mode():
        return model(TOKENS, use_cache=False).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", CASES)
@pytest.mark.parametrize(
    ("method", "what", "order"),
    [
        ("duplicate", {"layers": 6}, [0, 1, 1, 2, 3, 3]),
        ("duplicate", {"after": [2, 0]}, [0, 0, 1, 2, 2, 3]),
        ("solar", {"layers": 6}, [0, 1, 2, 1, 2, 3]),
        ("solar", {"layers": 7}, [0, 1, 2, 3, 1, 2, 3]),
    ],
)
def test_copies_are_the_layers_run_again(
    family: str, method: str, what: dict[str, object], order: list[int], tmp_path: Path
) -> None:
    bundle = tiny_bundle(family, layers=4)
    before = weights_hash(bundle.model)
    grown = grow(bundle, method, **what)  # type: ignore[arg-type]
    assert list(grown.origins) == order
    assert torch.equal(logits(grown.bundle), by_hand(bundle, order))
    assert weights_hash(bundle.model) == before and len(bundle.layers) == 4
    assert len(grown.new) == len(order) - 4
    grown.bundle.model.save_pretrained(tmp_path)  # which refuses tensors that two layers share
    again = AutoModelForCausalLM.from_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(again(TOKENS).logits, logits(grown.bundle))


@pytest.mark.parametrize("family", CASES)
def test_llama_pro_says_what_the_model_said(family: str) -> None:
    bundle = tiny_bundle(family, layers=4)
    grown = grow(bundle, "llama-pro", layers=6)
    assert grown.new == (2, 5), "behind the last layer of each of two groups"
    assert torch.equal(logits(grown.bundle), logits(bundle))
    assert grown.bundle.parameters > bundle.parameters


@pytest.mark.parametrize("seed", [0, 1])
def test_pruning_finds_what_was_grown(seed: int) -> None:
    bundle = tiny_bundle("llama", layers=5, seed=seed)
    grown = grow(bundle, "llama-pro", after=[0, 3])
    pruned = come.compress(grown.bundle, TOKENS, method="shortgpt", target_layers=5)
    assert weights_hash(pruned.bundle.model) == bundle.fingerprint


def test_a_saved_model_is_read_and_pruned_like_any_other(tmp_path: Path) -> None:
    bundle = come.load(tiny_folder(tmp_path, layers=4))
    grown = grow(bundle, "duplicate", after=[1])
    folder = come.save(grown.bundle, tmp_path / "grown")
    assert "Grown from 4 to 5 layers by Duplication, and not trained since. Its new layers: 2." in (
        folder / "README.md"
    ).read_text("utf-8")
    again = come.load(folder)
    assert weights_hash(again.model) == weights_hash(grown.bundle.model)
    back = come.compress(again, TOKENS, method="sleb", target_layers=4)
    assert len(back.bundle.layers) == 4 and come.perplexity(back.bundle, TOKENS) > 0


@pytest.mark.parametrize(
    ("method", "what", "sentence"),
    [
        ("lessa", {"layers": 5}, "Did you mean lesa"),
        ("lesa", {}, "not said how many layers"),
        ("lesa", {"layers": 4}, "Give 5 to 7"),
        ("lesa", {"layers": 8}, "Give 5 to 7"),
        ("duplicate", {"layers": 9}, "Give 5 to 8"),
        ("lesa", {"after": [3]}, "layers 0 to 2"),
        ("duplicate", {"after": [-1]}, "layers 0 to 3"),
        ("duplicate", {"after": []}, "layers 0 to 3"),
        ("duplicate", {"after": [1, 1]}, "named twice"),
        ("duplicate", {"after": [1], "layers": 6}, "are 5, not 6"),
        ("solar", {"after": [1]}, "no choice of places"),
        ("lesa", {"layers": 5, "epoch": 3}, "Did you mean epochs"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(method: str, what: dict[str, object], sentence: str) -> None:
    with pytest.raises(ComeError) as caught:
        grow(tiny_bundle(layers=4), method, **what)  # type: ignore[arg-type]
    assert sentence in str(caught.value)


def test_models_that_are_not_at_hand_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    outside = come.load(tiny_folder(tmp_path, layers=4), device="balanced", max_memory={"cpu": "60KB"})
    with pytest.raises(ComeError, match="outside of memory"):
        grow(outside, "duplicate", layers=5)
    packed = tiny_bundle(layers=4)
    layer = packed.layers[1].mlp.up_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(ComeError, match="quantized"):
        grow(packed, "duplicate", layers=5)


def test_every_way_says_what_it_is() -> None:
    assert list(growths()) == ["duplicate", "lesa", "llama-pro", "solar"]
    for way in growths().values():
        assert way.title and way.summary.endswith(".") and way.most(4) in (7, 8)
