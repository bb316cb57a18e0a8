"""What holds for all methods that average layers or silence parts of them, on every family."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Mask
from come.pruning.registry import methods
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)
FAST = {
    "mka": {"sample": 64},
    "laco": {"threshold": -1.0, "window": 3},
    "slm": {"threshold": -1.0},
    "finercut": {"sequences": 1, "seq_len": 8},
    "fisher": {},
}
OF_ONE_KIND = tuple(case for case in CASES if case != "gemma2")  # its kinds of layers alternate


def pruned(
    name: str, family: str, target: int = 3, layers: int = 6, **more: Any
) -> tuple[come.Bundle, come.Result, list[Plan]]:
    bundle, plans = tiny_bundle(family, layers), list[Plan]()
    options = {**FAST[name], "batch_size": 4, **more}
    result = come.compress(bundle, TOKENS, name, target_layers=target, on_step=plans.append, **options)
    return bundle, result, plans


@pytest.mark.parametrize(
    ("name", "family"), [(name, family) for name in ("mka", "laco", "slm") for family in OF_ONE_KIND]
)
def test_averages_hit_the_layers(name: str, family: str, tmp_path: Path) -> None:
    bundle, result, plans = pruned(name, family)
    assert len(result.bundle.layers) == 3
    assert bundle.fingerprint == weights_hash(bundle.model)
    assert len(result.history) == len(result.plan.steps) == len(plans)
    check_rebuilt_and_resumed(name, bundle, result, plans, tmp_path)


@pytest.mark.parametrize(("name", "family"), [(name, family) for name in ("finercut", "fisher") for family in CASES])
def test_masks_hit_the_parameters(name: str, family: str, tmp_path: Path) -> None:
    bundle, result, plans = pruned(name, family, layers=4)
    most = bundle.parameters - sum(parameter.numel() for parameter in bundle.layers[0].parameters())
    assert len(result.bundle.layers) == 4
    assert result.bundle.parameters <= most
    for parameters in one_unit_more(bundle, result):
        assert parameters > most
    assert bundle.fingerprint == weights_hash(bundle.model)
    check_rebuilt_and_resumed(name, bundle, result, plans, tmp_path)


def one_unit_more(bundle: come.Bundle, result: come.Result) -> list[int]:
    """The parameters with any one of what was silenced back: a sub-layer of FinerCut's, a unit of Fisher's."""
    from come.transforms.mask import mask

    masks = [step for step in result.plan.steps if isinstance(step, Mask)]
    if len(masks) > 1:
        return [result.bundle.parameters + step.parameters for step in masks]
    found = []
    for attention, units in ((True, masks[0].kv_groups), (False, masks[0].channels)):
        for layer, silenced in units.items():
            less = {each: gone for each, gone in {**units, layer: silenced[1:]}.items() if gone}
            kv_groups, channels = (less, masks[0].channels) if attention else (masks[0].kv_groups, less)
            found.append(bundle.parameters - mask(bundle, kv_groups, channels).parameters)
    return found


def check_rebuilt_and_resumed(
    name: str, bundle: come.Bundle, result: come.Result, plans: list[Plan], folder: Path
) -> None:
    result.plan.write(folder / "plan.json")
    plan = Plan.read(folder / "plan.json")
    assert plan == result.plan
    assert weights_hash(replay(bundle, plan).model) == weights_hash(result.bundle.model)
    plans[0].write(folder / "begun.json")
    options = {**FAST[name], "batch_size": 4}
    done = Plan.read(folder / "begun.json")
    again = come.compress(bundle, TOKENS, name, target_layers=3, done=done, **options)
    assert again.plan == result.plan
    assert weights_hash(again.bundle.model) == weights_hash(result.bundle.model)
    finished = come.compress(bundle, TOKENS, name, target_layers=3, done=plan, **options)
    assert finished.plan == result.plan


@pytest.mark.parametrize("name", FAST)
def test_nothing_to_do_changes_nothing(name: str) -> None:
    bundle, result, _ = pruned(name, "llama", target=6)
    assert not result.plan.steps
    assert weights_hash(result.bundle.model) == weights_hash(bundle.model)


@pytest.mark.parametrize("name", FAST)
def test_half_precision_models_are_pruned_too(name: str) -> None:
    bundle = tiny_bundle()
    bundle.model.to(torch.bfloat16)
    result = come.compress(bundle, TOKENS, name, target_layers=4, **FAST[name])
    assert result.bundle.dtype == torch.bfloat16
    assert weights_hash(replay(bundle, result.plan).model) == weights_hash(result.bundle.model)
    assert come.perplexity(result.bundle, TOKENS) > 1


@pytest.mark.parametrize("name", ["mka", "laco", "slm"])
def test_layers_of_different_kinds_are_not_averaged(name: str) -> None:
    with pytest.raises(ComeError, match="different kinds"):
        pruned(name, "gemma2", target=5)
    with pytest.raises(ComeError, match="2 are left" if name != "slm" else "3 are left"):
        pruned(name, "gemma3_text", target=1)
    assert pruned(name, "gemma3_text", target=3)[1].plan.groups() in (
        [[0], [1, 2], [3, 4, 5]],
        [[0, 1, 2], [3, 4], [5]],
        [[0, 1], [2], [3, 4, 5]],
        [[0, 1, 2], [3], [4, 5]],
    )


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mka", {"sample": 2}, "sample of mka cannot be 2. Give 3 or more."),
        ("mka", {"sample": 3}, "cannot be embedded"),
        ("mka", {"sigma": 0.0}, "wide"),
        ("mka", {"batch_size": 0}, "batch_size of mka cannot be 0. Give 1 or more."),
        ("laco", {"window": 1}, "window of laco cannot be 1. Give 2 or more."),
        ("laco", {"interval": 0}, "interval"),
        ("laco", {"threshold": 2}, "no cosine"),
        ("slm", {"similarity": "cosine"}, "similarity of slm cannot be 'cosine'. It takes sequence or all or last."),
        ("slm", {"sequences": 0}, "sequences of slm cannot be 0. Give 1 or more."),
        ("finercut", {"metric": "cosine"}, "metric of finercut cannot be 'cosine'. It takes norm or angular or js."),
        ("finercut", {"seq_len": 1}, "seq_len"),
        ("fisher", {"ridge": 0.0}, "ridge of fisher cannot be 0.0. Give more than 0."),
    ],
)
def test_impossible_options_get_one_sentence(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, name, target_layers=4, **options)


def test_each_says_what_it_needs_and_costs() -> None:
    known = methods()
    assert {name: known[name].target for name in FAST} == {
        "mka": "layers",
        "laco": "layers",
        "slm": "layers",
        "finercut": "parameters",
        "fisher": "parameters",
    }
    assert all(known[name].cost.endswith(".") and known[name].needs for name in FAST)
    assert "gradients" in known["fisher"].needs
