"""The ways to recover a pruned model, by name. A way is one file in ``ways`` that registers one function."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from typing import Any

from come.errors import ComeError, did_you_mean
from come.options import Options, parse_options, unknown_option
from come.recovery.way import Recovered, RecoverTask, RecoverySize, Way, Work

FOLDER = "come.recovery.ways"
_WAYS: dict[str, Way] = {}


def register(
    name: str,
    *,
    title: str,
    paper: str,
    summary: str,
    cost: str,
    order: int,
    options: type[Options],
    work: Callable[[RecoverySize, Any], Work],
    default: bool = False,
    after: tuple[str, ...] = (),
) -> Callable[[Callable[[RecoverTask, Any], Recovered]], Callable[[RecoverTask, Any], Recovered]]:
    """Register the function below as the way of that name (see ``Way`` for the rest)."""

    def add(function: Callable[[RecoverTask, Any], Recovered]) -> Callable[[RecoverTask, Any], Recovered]:
        _WAYS[name] = Way(name, title, paper, summary, cost, order, default, options, work, function, after)
        return function

    return add


def ways() -> dict[str, Way]:
    """Every way, by name, in the order in which they are chained."""
    _register_all(tuple(import_module(FOLDER).__path__))
    return dict(sorted(_WAYS.items(), key=lambda item: (item[1].order, item[0])))


@lru_cache(maxsize=8)
def _register_all(folders: tuple[str, ...]) -> None:
    """Import every file of these folders, once."""
    for module in pkgutil.iter_modules(folders):
        import_module(f"{FOLDER}.{module.name}")


def default_ways() -> list[str]:
    """The names that "default" stands for, in the order in which they are chained."""
    return [name for name, way in ways().items() if way.default]


def names_of(how: str | Sequence[str]) -> list[str]:
    """The names of the ways that are asked for: a list, or joined by commas; "default" stands for ``default_ways``."""
    names = [name.strip() for name in how.split(",") if name.strip()] if isinstance(how, str) else how
    return [way for name in names for way in (default_ways() if name == "default" else (name,))]


def parse(how: str | Sequence[str], options: Mapping[str, Any]) -> list[tuple[Way, Any]]:
    """The ways that are asked for, each with its options.

    Args:
        how: a name, or several (``names_of``).
        options: an option goes to every way that has it; "logits.lr" to that way alone.

    Raises:
        ComeError: there is no such way or option, or its value is of another kind than it takes or makes no sense.
    """
    known = ways()
    names = names_of(how)
    for name in names:
        if name not in known:
            hint = did_you_mean(name, known, f"Choose from {', '.join(known)}.")
            raise ComeError(f"There is no way to recover named {name!r}.", hint)
    if not names:
        raise ComeError("No way to recover was named.", f"Choose from {', '.join(known)}.")
    chosen = [known[name] for name in names]
    _check_names(chosen, options)
    return [(way, parse_options(way.options, _options_of(way, options), way.name, "recovery")) for way in chosen]


def _options_of(way: Way, options: Mapping[str, Any]) -> dict[str, Any]:
    common = {name: value for name, value in options.items() if name in way.option_names}
    own = {name.partition(".")[2]: value for name, value in options.items() if name.startswith(f"{way.name}.")}
    return common | own


def _check_names(chosen: list[Way], options: Mapping[str, Any]) -> None:
    plain = {own for way in chosen for own in way.option_names}
    of_one = {f"{way.name}.{own}" for way in chosen for own in way.option_names}
    whose = (
        f"{' and '.join(way.name for way in chosen)} have" if len(chosen) > 1 else f"The recovery {chosen[0].name} has"
    )
    for name in options:
        if name not in plain | of_one:
            raise unknown_option(name, sorted(of_one if "." in name else plain), whose)
