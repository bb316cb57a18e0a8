"""CoMe Lab: compress large language models by concatenating layers (CoMe, arXiv 2510.15304).

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "come.models",
    "ComeError": "come.errors",
    "Event": "come.events",
    "Measurement": "come.measurement.measurement",
    "Method": "come.pruning.registry",
    "Plan": "come.plan",
    "Result": "come.pruning.result",
    "Speed": "come.evaluate",
    "accuracy": "come.evaluate",
    "compress": "come.pruning.compress",
    "describe": "come.models",
    "draft": "come.pruning.draft",
    "estimate": "come.estimate",
    "kl_divergence": "come.evaluate",
    "load": "come.models",
    "measure": "come.measurement.measure",
    "methods": "come.pruning.registry",
    "perplexity": "come.evaluate",
    "rebuild": "come.transforms.rebuild",
    "recover": "come.recover",
    "save": "come.models",
    "speed": "come.evaluate",
    "tokens": "come.text",
}

__all__ = [
    "Bundle",
    "ComeError",
    "Event",
    "Measurement",
    "Method",
    "Plan",
    "Result",
    "Speed",
    "accuracy",
    "compress",
    "describe",
    "draft",
    "estimate",
    "kl_divergence",
    "load",
    "measure",
    "methods",
    "perplexity",
    "rebuild",
    "recover",
    "save",
    "speed",
    "tokens",
]

if TYPE_CHECKING:
    from come.errors import ComeError
    from come.estimate.cost import estimate
    from come.evaluate.accuracy import accuracy
    from come.evaluate.divergence import kl_divergence
    from come.evaluate.perplexity import perplexity
    from come.evaluate.speed import Speed, speed
    from come.events import Event
    from come.measurement.measure import measure
    from come.measurement.measurement import Measurement
    from come.models import Bundle, describe
    from come.models.load import load
    from come.models.save import save
    from come.plan.plan import Plan
    from come.pruning.compress import compress
    from come.pruning.draft import draft
    from come.pruning.registry import Method, methods
    from come.pruning.result import Result
    from come.recover.recover import recover
    from come.text.tokens import tokens
    from come.transforms.rebuild import rebuild


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'come' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


class _Package(ModuleType):
    """The package, except that ``come.measure`` stays the function when the subpackage of that name is imported."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _HOMES and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
