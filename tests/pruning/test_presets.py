"""Presets: what they stand for is what a plan tells, and every option of theirs is one of its method's."""

from __future__ import annotations

import pytest

import come
from come.cli.request import request_of
from come.errors import ComeError
from come.pruning.presets import preset_options
from come.pruning.registry import methods
from tests.tiny import tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)


@pytest.mark.parametrize("method", [each.name for each in methods().values() if each.presets])
def test_a_preset_is_its_options(method: str) -> None:
    bundle, options = tiny_bundle(), preset_options("published", method)
    filled = come.compress(bundle, TOKENS, method, target_layers=4, preset="published")
    spelled = come.compress(bundle, TOKENS, method, target_layers=4, **options)
    assert filled.plan == spelled.plan
    assert {name: filled.plan.options[name] for name in options} == options
    own = come.compress(bundle, TOKENS, method, target_layers=4, preset="published", no_repeat=False)
    assert own.plan.options == filled.plan.options | {"no_repeat": False}


def test_a_preset_of_another_method_is_refused() -> None:
    with pytest.raises(ComeError, match="none of sleb's"):
        come.compress(tiny_bundle(), TOKENS, "sleb", target_layers=4, preset="published")


def test_the_command_line_fills_in_what_is_left_as_it_is() -> None:
    given = {
        "preset": "published", "method": "", "target_layers": 27, "options": ["span=3"], "n_tokens": 8192,
        "text": "python-docs", "seq_len": 256, "seed": 0, "evaluate": "ppl",
    }  # fmt: skip
    config = request_of(given)
    assert (config.method, config.text) == ("come", "wikitext2:rows=256,seed=10")
    assert (config.n_tokens, config.seed) == (32768, 10)
    assert (config.seq_len, config.options["span"], config.options["sbi_tokens"]) == (256, 3, "last")
    assert request_of(given | {"preset": ""}).text == "python-docs"
