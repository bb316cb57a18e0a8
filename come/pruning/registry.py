"""The methods, by name. A method is one function and the model of its options; a decorator registers it."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any, Literal

from come.errors import ComeError, did_you_mean
from come.pruning.forecast import Forecast, Known
from come.pruning.method import Kind, Method, Task
from come.pruning.options import ByHandOptions, MethodOptions
from come.pruning.result import Result
from come.pruning.schedule import Calibration, Schedule

FOLDER = "come.pruning.methods"
PAPER = "come"  # the method of the paper
_METHODS: dict[str, Method] = {}


def register(
    name: str,
    *,
    title: str,
    paper: str,
    summary: str,
    kind: Kind,
    options: type[MethodOptions] = MethodOptions,
    cost: str,
    needs: tuple[str, ...] = (),
    target: Literal["layers", "parameters"] = "layers",
    stepwise: bool = False,
    reference: bool = False,
    begins: bool = False,
    portfolio: Mapping[str, Any] | None = None,
    presets: Mapping[str, Mapping[str, Any]] | None = None,
    forecast: Callable[[Known, Any], Forecast | None] | None = None,
    work: Callable[[Known, Any, Calibration], Schedule] | None = None,
) -> Callable[[Callable[[Task, Any], Result]], Callable[[Task, Any], Result]]:
    """Register the function below as the method of that name (see ``Method`` for the rest)."""

    def add(function: Callable[[Task, Any], Result]) -> Callable[[Task, Any], Result]:
        _METHODS[name] = Method(
            name=name,
            title=title,
            paper=paper,
            summary=summary,
            kind=kind,
            options=options,
            function=function,
            cost=cost,
            needs=needs,
            target=target,
            stepwise=stepwise,
            reference=reference,
            begins=begins,
            portfolio=portfolio,
            presets=presets or {},
            forecast=forecast,
            work=work,
        )
        return function

    return add


def concatenates(name: str) -> bool:
    """Whether the method of that name concatenates layers, as CoMe does; of an unknown one, no."""
    known = methods().get(name)
    return known is not None and known.kind == "merge"


def methods() -> dict[str, Method]:
    """Every method, by name, CoMe first."""
    _register_all(tuple(import_module(FOLDER).__path__))
    return dict(sorted(_METHODS.items(), key=lambda item: (item[1].kind != "merge", item[0])))


@lru_cache(maxsize=8)
def _register_all(folders: tuple[str, ...]) -> None:
    """Import every file of these folders, once: pages ask for the methods many times a second."""
    for module in pkgutil.iter_modules(folders):
        import_module(f"{FOLDER}.{module.name}")


def method_for(options: Iterable[str]) -> str:
    """The name of the method of a request that names none: that to begin with, or CoMe where only that has all.

    Windows by hand are CoMe's: requests that name them meant that before another method took them.
    """
    given, begin = set(options), next(each for each in methods().values() if each.begins)
    of_begin = given <= set(begin.defaults()) - {"windows", "drop"}
    return begin.name if of_begin or not given <= set(method(PAPER).defaults()) else PAPER


def takes_windows(name: str) -> bool:
    """Whether the method of that name takes windows by hand, and layers to drop beside them."""
    known = methods().get(name)
    return known is not None and issubclass(known.options, ByHandOptions)


def fits_windows(name: str) -> bool:
    """Whether the method of that name fits the windows that it is given: their units together, and output maps."""
    return takes_windows(name) and methods()[name].options().moves_weights


def keeps_first_attention(name: str, options: Mapping[str, Any]) -> bool:
    """Whether a window that this method merges has the attention of its first layer, whole, by rule."""
    return fits_windows(name) and (methods()[name].defaults() | dict(options)).get("attention") == "first"


def method(name: str) -> Method:
    """The method of that name.

    Raises:
        ComeError: there is none; the sentence tells near names, or a few and where all are.
    """
    known = methods()
    if name not in known:
        few = [PAPER, next(each.name for each in known.values() if each.begins)]
        otherwise = f"Take {' or '.join(few)}, or one of the {len(known) - len(few)} others that `come methods` lists."
        raise ComeError(f"There is no method {name!r}.", did_you_mean(name, known, otherwise))
    return known[name]
