"""Settings that go together, by name: what they stand for is filled in plainly, so that requests and plans tell it.

``published`` is what the published programs of CoMe begin with (github.com/WangFei-2019/CoMe): 256 rows of WikiText-2's
training part, shuffled by the seed 10, in sequences of 2,048 tokens; pairs of layers, no layer twice, shares by BI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from come.errors import ComeError

ROWS, SEED = 256, 10
_TOKENS = {
    "text": f"wikitext2:rows={ROWS},seed={SEED}",
    "n_tokens": 32768,  # more than so many rows come to: about 15,000 by SmolLM2's tokenizer
    "seq_len": 2048,
    "seed": SEED,
}
_OPTIONS = {"span": 2, "no_repeat": True, "last_state": "normed", "select": "sbi", "sensitivity": "magnitude"}
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "published": {
        "come": {"sbi_tokens": "last", "exponent": 1.0, "floor": 0.0, **_OPTIONS},
        "come-p": {"sbi_tokens": "all", "granularity": 20, **_OPTIONS},
    }
}
"""By preset and method, the method's options."""


def preset_options(name: str, method: str) -> dict[str, Any]:
    """The options that a preset stands for.

    Raises:
        ComeError: there is no such preset, or it is not for that method.
    """
    if name not in PRESETS:
        raise ComeError(f"There is no preset {name!r}.", f"There is {', '.join(PRESETS)}.")
    if method not in PRESETS[name]:
        known = " and ".join(PRESETS[name])
        raise ComeError(f"The preset {name} is none of {method}'s.", f"It is for {known}.")
    return dict(PRESETS[name][method])


def with_preset(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a request with those that a preset stands for, where none are given; CoMe where no method is.

    Raises:
        ComeError: as for ``preset_options``.
    """
    method = values.get("method") or "come"
    given = values.get("options")
    options = {**preset_options(name, method), **(given if isinstance(given, dict) else {})}
    return {**_TOKENS, **values, "method": method, "options": options}
