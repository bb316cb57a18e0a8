"""What a visitor chooses, as plain values, and how the URL writes them.

?model=smollm2-135m&text=python-docs&tokens=4096&windows=4-5,9-11&ratios=0.3-0.7,0.2-0.3-0.5
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import come
from come.errors import ComeError

PARAMS = (
    "model",
    "text",
    "tokens",
    "seq_len",
    "seed",
    "method",
    "target",
    "remove",
    "windows",
    "ratios",
    "drop",
    "options",
)


@dataclass(frozen=True)
class Choice:
    """Which model is looked at, and over which tokens."""

    model: str = "smollm2-135m"
    text: str = "python-docs"
    tokens: int = 4096
    seq_len: int = 512
    seed: int = 0


@dataclass(frozen=True)
class Draft:
    """The plan as the visitor has it so far; at most one of target_layers, sparsity, windows is set.

    None of the three set means the default: a fifth of the parameters, chosen automatically. ``dropped`` are layers
    that go whole, ascending; like ``ratios`` they are only beside windows. Numbers are as exact as the URL writes them,
    so that a draft that went through a link or a reload is the same, and finds its run.
    """

    method: str = "come"
    target_layers: int | None = None
    sparsity: float | None = None
    windows: list[tuple[int, int]] | None = None
    ratios: list[tuple[float, ...]] | None = None
    dropped: tuple[int, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Round what the URL rounds."""
        object.__setattr__(self, "ratios", [shares(ratio) for ratio in self.ratios] if self.ratios else None)
        if self.sparsity is not None:
            object.__setattr__(self, "sparsity", float(_sparsity(self.sparsity)))

    @property
    def is_empty(self) -> bool:
        """Whether it is a plan by hand that leaves every layer as it is."""
        return self.windows == [] and not self.dropped


DEFAULT_SPARSITY = 0.2
LARGEST = 10**15  # of a whole number: the widgets of a page take little more
DIGITS = 6  # of a share, behind the point


def shares(ratio: Sequence[float]) -> tuple[float, ...]:
    """A ratio in the digits that the URL has; what rounding adds or takes is made good on the largest share."""
    rounded = [round(share, DIGITS) for share in ratio]
    if abs(sum(rounded) - 1) < 1e-3:
        largest = rounded.index(max(rounded))
        rounded[largest] = round(1 - sum(rounded[:largest] + rounded[largest + 1 :]), DIGITS)
    return tuple(rounded)


def _sparsity(share: float) -> str:
    return f"{share:.6g}"


def plan_fields(plan: Draft) -> dict[str, Any]:
    """A plan as the fields of a RunConfig: method, target_layers, sparsity, options."""
    options = dict(plan.options)
    sparsity = plan.sparsity
    if plan.windows is not None:
        options["windows"] = plan.windows
        if plan.ratios is not None:
            options["ratios"] = plan.ratios
        if plan.dropped:
            options["drop"] = plan.dropped
    elif plan.target_layers is None and sparsity is None:
        sparsity = DEFAULT_SPARSITY
    return {
        "method": plan.method,
        "target_layers": plan.target_layers,
        "sparsity": sparsity,
        "options": comparable(options),
    }


def comparable(options: dict[str, Any]) -> dict[str, Any]:
    """Options with lists for tuples, as JSON has them, and ratios in the digits of a draft's."""
    plain: dict[str, Any] = json.loads(json.dumps(options))
    if ratios := plain.get("ratios"):
        plain["ratios"] = [list(shares(ratio)) if isinstance(ratio, list) else ratio for ratio in ratios]
    return plain


# --- the URL ------------------------------------------------------------------------------------------


def to_params(chosen: Choice, plan: Draft) -> dict[str, str]:
    """The URL's parameters; what is at its default stays out, but model, text and tokens."""
    query = {"model": chosen.model, "text": chosen.text, "tokens": str(chosen.tokens)}
    if chosen.seq_len != Choice().seq_len:
        query["seq_len"] = str(chosen.seq_len)
    if chosen.seed != Choice().seed:
        query["seed"] = str(chosen.seed)
    if plan.method != Draft().method:
        query["method"] = plan.method
    if plan.target_layers is not None:
        query["target"] = str(plan.target_layers)
    if plan.sparsity is not None:
        query["remove"] = _sparsity(plan.sparsity)
    if plan.windows is not None:
        query["windows"] = ",".join(f"{first}-{last}" for first, last in plan.windows)
    if plan.ratios is not None:
        query["ratios"] = ",".join("-".join(f"{share:.{DIGITS}f}" for share in ratio) for ratio in plan.ratios)
    if plan.dropped:
        query["drop"] = ",".join(map(str, plan.dropped))
    if plan.options:
        query["options"] = ",".join(f"{name}:{setting}" for name, setting in sorted(plan.options.items()))
    return query


def from_params(query: dict[str, str]) -> tuple[Choice, Draft, list[str]]:
    """Read the URL's parameters; one that makes no sense is left out and named in the third value.

    What is left makes a draft that the page can show and a visitor can mend, whether or not it fits the model.
    """
    found: dict[str, Any] = {}
    misread: list[str] = []
    for key, text in query.items():
        try:
            found[key] = _READERS.get(key, str)(text)
        except ValueError:
            misread.append(f"{key}={text}")
    base = Choice()
    chosen = Choice(
        model=found.get("model") or base.model,
        text=found.get("text") or base.text,
        tokens=found.get("tokens", base.tokens),
        seq_len=found.get("seq_len", base.seq_len),
        seed=found.get("seed", base.seed),
    )
    dropped = found.get("drop", ())
    windows = found.get("windows", [] if dropped else None)
    ratios = found.get("ratios") if windows is not None else None
    if ratios is not None and [len(ratio) for ratio in ratios] != [last - first + 1 for first, last in windows or []]:
        misread.append(f"ratios={query['ratios']}")
        ratios = None
    method = found.get("method") or Draft().method
    options = found.get("options", {})
    strange = _strange(method, options)
    misread += [f"options={name}:{options[name]}" for name in strange]
    plan = Draft(
        method=method,
        target_layers=found.get("target") if windows is None else None,
        sparsity=found.get("remove") if windows is None and "target" not in found else None,
        windows=windows,
        ratios=ratios,
        dropped=dropped,
        options={name: value for name, value in options.items() if name not in strange},
    )
    return chosen, plan, misread


def _strange(method: str, options: dict[str, Any]) -> list[str]:
    """The options that a method does not have, or that are of another kind; no widget could show them."""
    known = come.methods().get(method)
    found = []
    for name, value in options.items() if known else ():
        try:
            known.check_option(name, value)
        except ComeError:
            found.append(name)
    return found


def _whole(text: str) -> int:
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError(text)
    return number


def _count(text: str) -> int:
    number = _whole(text)
    if number < 0:
        raise ValueError(text)
    return number


def _share(text: str) -> float:
    """A share of the parameters; one that makes no sense is shown all the same, as long as it can be."""
    share = float(text)
    if not abs(share) <= 100:  # nor is it NaN
        raise ValueError(text)
    return share


def read_windows(text: str) -> list[tuple[int, int]]:
    """Windows as the URL has them: 4-5,9-11 is [(4, 5), (9, 11)].

    Raises:
        ValueError: it is not written like that.
    """
    pairs = [part.split("-") for part in text.split(",") if part]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(text)
    return [(_whole(first), _whole(last)) for first, last in pairs]


def _layers(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(part) for part in text.split(",") if part}))


def _ratios(text: str) -> list[tuple[float, ...]]:
    ratios = [tuple(float(share) for share in part.split("-")) for part in text.split(",")]
    if not all(0 <= share <= 1 for ratio in ratios for share in ratio):
        raise ValueError(text)
    return ratios


def _options(text: str) -> dict[str, Any]:
    pairs = [part.split(":", 1) for part in text.split(",") if part]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(text)
    return {name: _plain(setting) for name, setting in pairs}


def _plain(text: str) -> bool | int | float | str | None:
    named = {"True": True, "False": False, "None": None}
    if text in named:
        return named[text]
    for kind in (int, float):
        try:
            number = kind(text)
        except ValueError:
            continue
        if kind is int and abs(number) > LARGEST:
            raise ValueError(text)
        return number
    return text


_READERS: dict[str, Callable[[str], Any]] = {
    "tokens": _count,
    "seq_len": _count,
    "seed": _count,
    "target": _whole,
    "remove": _share,
    "windows": read_windows,
    "ratios": _ratios,
    "drop": _layers,
    "options": _options,
}
