"""Settings that go together, by name: what they stand for is filled in plainly, so that requests and plans tell it.

``published`` is what the published programs of CoMe begin with (github.com/WangFei-2019/CoMe): 256 rows of WikiText-2's
training part, shuffled by the seed 10, in sequences of 2,048 tokens; pairs of layers, no layer twice, shares by BI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from come.errors import ComeError
from come.pruning.registry import PAPER, methods

ROWS, SEED = 256, 10
# By preset, what it says of the tokens. The options stand where each method registers itself.
PRESETS: dict[str, dict[str, Any]] = {
    "published": {
        "text": f"wikitext2:rows={ROWS},seed={SEED}",
        "n_tokens": 32768,  # more than so many rows come to: about 15,000 by SmolLM2's tokenizer
        "seq_len": 2048,
        "seed": SEED,
    }
}


def preset_options(name: str, method: str) -> dict[str, Any]:
    """The options that a preset stands for.

    Raises:
        ComeError: there is no such preset, or it is not for that method.
    """
    if name not in PRESETS:
        raise ComeError(f"There is no preset {name!r}.", f"There is {', '.join(PRESETS)}.")
    known = {each.name: each.presets[name] for each in methods().values() if name in each.presets}
    if method not in known:
        raise ComeError(f"The preset {name} is none of {method}'s.", f"It is for {' and '.join(known)}.")
    return dict(known[method])


def with_preset(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The values of a request with those that a preset stands for, where none are given; CoMe where no method is.

    Raises:
        ComeError: as for ``preset_options``.
    """
    method = values.get("method") or PAPER
    given = values.get("options")
    options = {**preset_options(name, method), **(given if isinstance(given, dict) else {})}
    return {**PRESETS[name], **values, "method": method, "options": options}
