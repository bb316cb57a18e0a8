"""The ways to grow a model, by name. A way is one file in ``methods`` that registers one function."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from come.errors import ComeError, did_you_mean
from come.growing.growth import GrownLayer, GrowTask, Growth
from come.options import Options

FOLDER = "come.growing.methods"
_GROWTHS: dict[str, Growth] = {}

Function = Callable[[GrowTask, Any], list[GrownLayer]]


def register(
    name: str,
    *,
    title: str,
    paper: str,
    summary: str,
    most: Callable[[int], int],
    options: type[Options] = Options,
    places: bool = True,
    below_last: bool = False,
) -> Callable[[Function], Function]:
    """Register the function below as the way of that name (see ``Growth`` for the rest)."""

    def add(function: Function) -> Function:
        _GROWTHS[name] = Growth(name, title, paper, summary, options, function, most, places, below_last)
        return function

    return add


def growths() -> dict[str, Growth]:
    """Every way, by name."""
    for module in pkgutil.iter_modules(import_module(FOLDER).__path__):
        import_module(f"{FOLDER}.{module.name}")
    return dict(sorted(_GROWTHS.items()))


def growth(name: str) -> Growth:
    """The way of that name.

    Raises:
        ComeError: there is none; the sentence lists near names.
    """
    known = growths()
    if name not in known:
        raise ComeError(
            f"There is no way to grow named {name!r}.", did_you_mean(name, known, f"Choose from {', '.join(known)}.")
        )
    return known[name]
