"""How the URL writes what a visitor chose. Links are kept, so its names stay; some differ from a request's.

?model=smollm2-135m&text=python-docs&tokens=4096&windows=4-5,9-11&ratios=0.3-0.7,0.2-0.3-0.5

URL       request's config.json
tokens    n_tokens
target    target_layers
remove    sparsity
windows, ratios, drop    options of those names: a plan by hand
All others are called the same in both. A link without bos is from before there was that setting, and means never.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any, cast, get_args

import come
from app.state.choice import DIGITS, LARGEST, Choice, Draft, sparsity_text
from come.errors import ComeError
from come.pruning.registry import PAPER
from come.request import BEFORE_BOS, Bos

PARAMS = (
    "model",
    "text",
    "tokens",
    "seq_len",
    "seed",
    "bos",
    "method",
    "target",
    "remove",
    "windows",
    "ratios",
    "drop",
    "options",
)
MOST_PARTS = 256  # of a parameter that lists windows, ratios, layers or options
LONGEST_NUMBER = 24  # characters
PLAN = ("target", "remove", "windows", "ratios", "drop", "options")


def to_params(chosen: Choice, plan: Draft) -> dict[str, str]:
    """The URL's parameters; what is at its default stays out, but model, text and tokens."""
    query = {"model": chosen.model, "text": chosen.text, "tokens": str(chosen.tokens)}
    if chosen.seq_len != Choice().seq_len:
        query["seq_len"] = str(chosen.seq_len)
    if chosen.seed != Choice().seed:
        query["seed"] = str(chosen.seed)
    if chosen.bos != BEFORE_BOS:
        query["bos"] = chosen.bos
    if plan.target_layers is not None:
        query["target"] = str(plan.target_layers)
    if plan.sparsity is not None:
        query["remove"] = sparsity_text(plan.sparsity)
    if plan.windows is not None:
        query["windows"] = ",".join(f"{first}-{last}" for first, last in plan.windows)
    if plan.ratios is not None:
        query["ratios"] = ",".join("-".join(f"{share:.{DIGITS}f}" for share in ratio) for ratio in plan.ratios)
    if plan.dropped:
        query["drop"] = ",".join(map(str, plan.dropped))
    if plan.options:
        query["options"] = ",".join(f"{name}:{setting}" for name, setting in sorted(plan.options.items()))
    if plan.method != _meant(query):
        query["method"] = plan.method
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
        bos=found.get("bos", BEFORE_BOS if query and "bos" not in query else base.bos),
    )
    dropped = found.get("drop", ())
    windows = found.get("windows", [] if dropped else None)
    ratios = found.get("ratios") if windows is not None else None
    if ratios is not None and [len(ratio) for ratio in ratios] != [last - first + 1 for first, last in windows or []]:
        misread.append(f"ratios={query['ratios']}")
        ratios = None
    method = found.get("method") or _meant(found)
    if ratios is not None and method in come.methods() and "ratios" not in come.methods()[method].defaults():
        misread.append(f"ratios={query['ratios']}")
        ratios = None
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


def _meant(query: Container[str]) -> str:
    """The method of a link that names none: links with a plan always meant CoMe, and are kept."""
    return PAPER if any(name in query for name in PLAN) else Draft().method


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
    if len(text) > LONGEST_NUMBER or not text.isascii():
        raise ValueError("too long for a number, or written in other digits")
    number = int(text)
    if abs(number) > LARGEST:
        raise ValueError(text)
    return number


def _fraction(text: str) -> float:
    if len(text) > LONGEST_NUMBER or not text.isascii():
        raise ValueError("too long for a number, or written in other digits")
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _parts(text: str, separator: str = ",") -> list[str]:
    """What a parameter lists; more than a page can hold is not read."""
    parts = text.split(separator, MOST_PARTS + 1)
    if len(parts) > MOST_PARTS:
        raise ValueError("too many parts")
    return parts


def _count(text: str) -> int:
    number = _whole(text)
    if number < 0:
        raise ValueError(text)
    return number


def _bos(text: str) -> Bos:
    if text not in get_args(Bos):
        raise ValueError(text)
    return cast(Bos, text)


def _share(text: str) -> float:
    """A share of the parameters; one that makes no sense is shown all the same, as long as it can be."""
    share = _fraction(text)
    if abs(share) > 100:
        raise ValueError(text)
    return share


def read_windows(text: str) -> list[tuple[int, int]]:
    """Windows as the URL has them: 4-5,9-11 is [(4, 5), (9, 11)].

    Raises:
        ValueError: it is not written like that.
    """
    pairs = [part.split("-", 2) for part in _parts(text) if part]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(text)
    return [(_whole(first), _whole(last)) for first, last in pairs]


def _layers(text: str) -> tuple[int, ...]:
    return tuple(sorted({_count(part) for part in _parts(text) if part}))


def _ratios(text: str) -> list[tuple[float, ...]]:
    ratios = [tuple(_fraction(share) for share in _parts(part, "-")) for part in _parts(text)]
    if not all(0 <= share <= 1 for ratio in ratios for share in ratio):
        raise ValueError(text)
    return ratios


def _options(text: str) -> dict[str, Any]:
    pairs = [part.split(":", 1) for part in _parts(text) if part]
    if any(len(pair) != 2 for pair in pairs):
        raise ValueError(text)
    return {name: _plain(setting) for name, setting in pairs}


def _plain(text: str) -> bool | int | float | str | None:
    named = {"True": True, "False": False, "None": None}
    if text in named:
        return named[text]
    try:
        number = float(text)
    except ValueError:
        return text
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise ValueError(text)
    try:
        return _whole(text)
    except ValueError:
        return _fraction(text)


_READERS: dict[str, Callable[[str], Any]] = {
    "tokens": _count,
    "seq_len": _count,
    "seed": _count,
    "bos": _bos,
    "target": _whole,
    "remove": _share,
    "windows": read_windows,
    "ratios": _ratios,
    "drop": _layers,
    "options": _options,
}
