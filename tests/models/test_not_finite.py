"""What is said of a model that gives no numbers: the layer, or the weights, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import come
from come.errors import ComeError
from come.models import Bundle
from come.models.not_finite import first_place, why_not_finite
from come.plan.plan import Plan
from come.plan.steps import Remove
from come.transforms.rebuild import base_of, with_plan
from tests.folders import edit_weights
from tests.tiny import tiny_bundle, tiny_folder, tiny_tokens

TOKENS = tiny_tokens(2, 12)
FAMILIES = ["llama", "gemma2", "olmo2", "gpt_neox", "gpt2", "falcon:multi-query", "opt"]


def overflowing(bundle: Bundle, layer: int) -> Bundle:
    """The model in float16, with weights that are finite there, and values that are not from a layer on."""
    weight = bundle.family.matrix(bundle.layers[layer], bundle.family.ffn_output)
    weight.data.mul_(1e6).clamp_(-6e4, 6e4)
    bundle.model.half()
    assert all(bool(parameter.isfinite().all()) for parameter in bundle.model.parameters())
    return bundle


def spoilt(bundle: Bundle, name: str, value: float) -> Bundle:
    weight = bundle.model.get_parameter(name)
    weight.data.view(-1)[-1] = value
    return bundle


@pytest.mark.parametrize("layer", [0, 3, 5])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_layer_whose_values_overflow_first_is_named(family: str, layer: int) -> None:
    error = why_not_finite(overflowing(tiny_bundle(family), layer), TOKENS)
    assert error.what == f"In layer {layer} (the first is 0) the model's values overflow in float16."
    assert error.hint == "Use bfloat16 or float32."


@pytest.mark.parametrize("layer", [0, 4])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_that_are_no_numbers_are_named(family: str, layer: int) -> None:
    bundle = tiny_bundle(family)
    path = f"{bundle.family.layers}.{layer}.{bundle.family.attention_output}.weight"
    for tokens in (TOKENS, None):  # run, or looked at alone
        error = why_not_finite(spoilt(bundle, path, torch.nan), tokens)
        assert error.what == f"Some of the model's weights are not numbers, first of all in {path}."
        assert error.hint == "Fetch or convert the model again."


@pytest.mark.parametrize(("value", "words"), [(torch.nan, "are not numbers"), (torch.inf, "overflow in float32")])
@pytest.mark.parametrize("family", ["llama", "qwen2", "opt"])
def test_weights_that_no_text_comes_upon_are_refused_on_loading(
    family: str, value: float, words: str, tmp_path: Path
) -> None:
    """Such as the embedding of a word that does not occur."""
    folder = tiny_folder(tmp_path, family)
    path = tiny_bundle(family).family.embeddings[0]
    edit_weights(folder, lambda weights: weights[f"{path}.weight"][-3].fill_(value))
    with pytest.raises(ComeError, match=words) as caught:
        come.load(folder)
    assert f"first of all in {path}.weight" in caught.value.what


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("part", ["embeddings", "final_norm", "head"])
def test_what_lies_outside_of_the_layers_is_named_too(family: str, part: str) -> None:
    bundle = tiny_bundle(family, tie_word_embeddings=False)
    path = bundle.family.embeddings[0] if part == "embeddings" else getattr(bundle.family, part)
    name = f"{path}.weight"
    bundle.model.get_parameter(name).data[:] = torch.nan
    assert why_not_finite(bundle, TOKENS).what.endswith(f"first of all in {name}.")
    place = first_place(bundle, TOKENS)
    assert place is not None and place.path == path


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        (torch.float16, "Use bfloat16 or float32."),
        (torch.bfloat16, "Use float32."),
        (torch.float32, "Fetch or convert the model again."),
    ],
)
def test_weights_that_are_too_large_say_which_dtype_is_not(dtype: torch.dtype, hint: str) -> None:
    bundle = spoilt(tiny_bundle(), "model.layers.2.mlp.up_proj.weight", 1e6 if dtype == torch.float16 else torch.inf)
    bundle.model.to(dtype)
    error = why_not_finite(bundle, TOKENS)
    name = str(dtype).removeprefix("torch.")
    assert (
        error.what
        == f"Some of the model's weights, first of all in model.layers.2.mlp.up_proj.weight, overflow in {name}."
    )
    assert error.hint == hint


def test_of_a_pruned_model_nobody_is_told_to_fetch_it() -> None:
    original = tiny_bundle()
    plan = Plan(base=base_of(original), dtype="float32", method="random", steps=[Remove(layers=[5])])
    pruned = with_plan(original, plan)
    error = why_not_finite(spoilt(pruned, "model.layers.1.mlp.up_proj.weight", torch.nan), TOKENS)
    assert error.what.startswith("Some of the pruned model's weights are not numbers") and "Fetch" not in error.hint


def test_a_model_that_is_sound_is_told_of_without_a_place() -> None:
    bundle = tiny_bundle()
    assert first_place(bundle, TOKENS) is None
    assert why_not_finite(bundle, TOKENS).what == "The model's values overflow in float32."


@pytest.mark.parametrize("layer", [0, 4])
def test_values_that_are_finite_but_too_large_to_be_measured_are_named(layer: int) -> None:
    bundle = tiny_bundle()
    bundle.layers[layer].mlp.down_proj.weight.data *= 1e30  # type: ignore[union-attr, operator]
    assert first_place(bundle, TOKENS) is None
    assert (
        why_not_finite(bundle, TOKENS).what
        == f"In layer {layer} (the first is 0) the model's values overflow in float32."
    )


def test_watching_leaves_nothing_behind() -> None:
    bundle = tiny_bundle()
    before = [len(module._forward_hooks) for module in bundle.model.modules()]
    why_not_finite(bundle, TOKENS)
    assert [len(module._forward_hooks) for module in bundle.model.modules()] == before
