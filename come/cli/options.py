"""`--option key=value`: text from the command line to the values that options have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from come.errors import ComeError
from come.options import Options, options_in, parse_option, unknown_option


def parse_pairs(pairs: Sequence[str], owner: str, options: type[Options], what: str = "method") -> dict[str, Any]:
    """The options given as ``key=value``, each as its model takes it.

    Args:
        pairs: such as "span=3", "no_repeat=false", "windows=[[4, 5], [9, 11]]"; the last of a key counts.
        owner: the name of the method or the way, for the sentences.
        options: the model of its options.
        what: that it is a "method" or a "recovery".

    Raises:
        ComeError: a pair has no "=", there is no such option, or it does not take the value.
    """
    return dict(_parse(pair, owner, options, what) for pair in pairs)


def option_in(pair: str) -> str:
    """The option that a pair is of."""
    return pair.partition("=")[0].strip().replace("-", "_")


def _parse(pair: str, owner: str, options: type[Options], what: str) -> tuple[str, Any]:
    key, (_, equals, text) = option_in(pair), pair.partition("=")
    if not equals:
        raise ComeError(f"The option {pair!r} has no value.", "Write it as key=value, such as span=3.")
    if key not in options_in(options):
        raise unknown_option(key, options_in(options), f"The {what} {owner} has")
    refusals = []
    for value in _readings(text.strip()):
        try:
            return key, parse_option(options, key, value, owner, what)
        except ComeError as error:
            refusals.append(error)
    lists = " Lists are written as JSON, such as [[4, 5], [9, 11]]." if "list" in refusals[0].hint else ""
    raise ComeError(refusals[0].what, f"{refusals[0].hint}{lists}")


def _readings(text: str) -> list[Any]:
    """What a value may mean: what it is as JSON or by a word for yes, no and nothing, and the text itself."""
    words = {"none": None, "true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
    try:
        return [words[text.lower()] if text.lower() in words else json.loads(text), text]
    except (ValueError, RecursionError):
        return [text]
