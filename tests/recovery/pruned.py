"""Small pruned models to recover, and what several tests ask of a result."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import come
from come.models import Bundle
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Remove
from come.pruning.result import Result
from come.transforms.rebuild import apply_step, replay, with_plan
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(24, 16)


def merged(
    family: str = "llama", target: int = 4, dtype: torch.dtype = torch.float32, **options: Any
) -> tuple[Bundle, Bundle]:
    """A model after CoMe, and the one that it was."""
    teacher = tiny_bundle(family)
    teacher.model.to(dtype)
    return come.compress(teacher, TOKENS, target_layers=target, **options).bundle, teacher


def without(teacher: Bundle, *layers: int) -> Bundle:
    """A model after some layers were removed."""
    plan = come.compress(teacher, TOKENS, target_layers=len(teacher.layers)).plan.with_step(Remove(layers=list(layers)))
    return with_plan(apply_step(teacher, plan.steps[-1]), plan)


def rebuilt(teacher: Bundle, result: Result, folder: Path) -> Bundle:
    """The model that the plan of a result makes, read back from its files."""
    result.plan.write(folder / "plan.json")
    return replay(teacher, Plan.read(folder / "plan.json"))


def same_weights(one: Bundle, other: Bundle) -> bool:
    """Whether two models have the same bits."""
    return weights_hash(one.model) == weights_hash(other.model)
