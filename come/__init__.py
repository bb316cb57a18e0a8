"""CoMe Lab: compress large language models by concatenating layers (CoMe, arXiv 2510.15304).

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Bundle": "come.models",
    "ComeError": "come.errors",
    "Event": "come.events",
    "Measurement": "come.measurement.measurement",
    "Method": "come.pruning.method",
    "Plan": "come.plan",
    "Result": "come.pruning.result",
    "Speed": "come.evaluate",
    "accuracy": "come.evaluate",
    "compress": "come.pruning.compress",
    "describe": "come.models",
    "draft": "come.pruning.draft",
    "estimate": "come.runs.foreseen",
    "grow": "come.growing.grow",
    "kl_divergence": "come.evaluate",
    "latency": "come.estimation.latency",
    "layers_for": "come.estimation.targets",
    "load": "come.models",
    "measure": "come.measurement.measure",
    "methods": "come.pruning.registry",
    "perplexity": "come.evaluate",
    "rebuild": "come.transforms.rebuild",
    "recover": "come.recovery.recover",
    "save": "come.export.folder",
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
    "grow",
    "kl_divergence",
    "latency",
    "layers_for",
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
    from come.estimation.latency import latency
    from come.estimation.targets import layers_for
    from come.evaluate.accuracy import accuracy
    from come.evaluate.divergence import kl_divergence
    from come.evaluate.perplexity import perplexity
    from come.evaluate.speed import Speed, speed
    from come.events import Event
    from come.export.folder import save
    from come.growing.grow import grow
    from come.measurement.measure import measure
    from come.measurement.measurement import Measurement
    from come.models import Bundle, describe
    from come.models.load import load
    from come.plan.plan import Plan
    from come.pruning.compress import compress
    from come.pruning.draft import draft
    from come.pruning.method import Method
    from come.pruning.registry import methods
    from come.pruning.result import Result
    from come.recovery.recover import recover
    from come.runs.foreseen import estimate
    from come.text.tokens import tokens
    from come.transforms.rebuild import rebuild


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'come' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
