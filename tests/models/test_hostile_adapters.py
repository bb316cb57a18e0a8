"""Adapters that lie about their size, or choose modules by a pattern without end, end in one sentence."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig

import come
from come.models import describe
from tests.models import hostile
from tests.models.test_adapter import adapted, logits
from tests.models.test_hostile_files import refused
from tests.tiny import tiny_folder

pytestmark = pytest.mark.timeout(60)
SLOW = "(.*_?)*(.*_?)*(.*_?)*!"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parent = tmp_path_factory.mktemp("adapters")
    adapted(tiny_folder(parent, layers=2), parent / "adapter", LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    return parent / "adapter"


@pytest.fixture
def adapter(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "adapter"))


def edit(adapter: Path, **values: Any) -> Path:
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return adapter


REFUSED: list[dict[str, Any]] = [
    {"r": 10**9}, {"r": 10**30}, {"r": 0}, {"r": -4}, {"r": "4"}, {"r": True}, {"r": 8}, {"r": 4.5}, {"r": None},
    {"rank_pattern": {"q_proj": 10**9}}, {"rank_pattern": {SLOW: 4}}, {"rank_pattern": []}, {"rank_pattern": 5},
    {"alpha_pattern": {"(a+)+$": 4}}, {"alpha_pattern": {"x" * 10**5: 4}},
    {"lora_alpha": float("nan")}, {"lora_alpha": float("inf")}, {"lora_alpha": 10**400},
    {"target_modules": SLOW}, {"target_modules": "(a|aa)+$" + SLOW}, {"target_modules": "(((("},
    {"target_modules": "nothing_of_it"}, {"target_modules": []}, {"target_modules": 5}, {"target_modules": [5]},
    {"target_modules": ["x"] * 60_000}, {"target_modules": "x" * 900_000}, {"target_modules": {"a": 1}},
    {"layers_pattern": SLOW, "layers_to_transform": [0]},
    {"layers_pattern": [SLOW], "layers_to_transform": [0]},
    {"peft_type": "NONSENSE"}, {"peft_type": 5}, {"peft_type": []}, {"peft_type": None},
    {"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9}, {"peft_type": "PREFIX_TUNING"},
    {"peft_type": "LOHA", "r": 10**9}, {"peft_type": "LOKR", "decompose_factor": 10**12}, {"peft_type": "IA3"},
    {"init_lora_weights": "pissa_niter_1000000000"}, {"init_lora_weights": "nonsense"},
    {"megatron_config": {"a": 1}, "megatron_core": "antigravity"},
    {"base_model_name_or_path": ["x"]}, {"base_model_name_or_path": "a\0b"}, {"base_model_name_or_path": "\ud800"},
    {"base_model_name_or_path": "."}, {"base_model_name_or_path": "/dev/zero"}, {"nonsense": 1},
]  # fmt: skip


@pytest.mark.parametrize("values", REFUSED, ids=range(len(REFUSED)))
def test_an_adapter_that_lies_is_refused(values: dict[str, Any], adapter: Path) -> None:
    begun = time.process_time()
    refused(edit(adapter, **values))
    assert time.process_time() - begun < 20


@pytest.mark.parametrize("field", ["exclude_modules", "modules_to_save"])
def test_a_pattern_that_matches_nothing_is_found_to_do_so(field: str, adapter: Path) -> None:
    assert come.load(edit(adapter, **{field: SLOW})).parameters == describe(adapter).parameters


@pytest.mark.parametrize("write", hostile.IN_PLACE.values(), ids=hostile.IN_PLACE)
@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_what_is_no_file_of_an_adapter_is_refused(name: str, write: Callable[[Path], object], adapter: Path) -> None:
    (adapter / name).unlink()
    write(adapter / name)
    refused(adapter)


@pytest.mark.parametrize(
    "chosen", [r".*\.(q_proj|down_proj)", "model.layers.*(q_proj|down_proj)$", r"(.*\.)?(q|down)_proj"]
)
def test_a_pattern_chooses_what_it_matches(chosen: str, adapter: Path) -> None:
    expected = logits(come.load(adapter).model)
    assert torch.equal(logits(come.load(edit(adapter, target_modules=chosen)).model), expected)
    assert describe(adapter).supported
