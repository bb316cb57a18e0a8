"""How large numbers may be that somebody gives, how large a perplexity is told, and how numbers read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

LARGEST_WHOLE = 10**15  # of what is asked for: sums and products of two of them stay finite
_DEEPEST, _PARTS, _LONGEST = 16, 100_000, 100_000  # of what is asked for
LARGEST_PERPLEXITY = 1e30  # a mean loss of 69 nats; a guess among the tokens of the largest vocabularies has 13


def perplexity_text(value: float, spec: str = ",.2f") -> str:
    """A perplexity by a format, such as "59.62"; "> 1e30" for one that is too large to tell from others."""
    return f"> {LARGEST_PERPLEXITY:.0e}".replace("+", "") if value >= LARGEST_PERPLEXITY else format(value, spec)


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether a value is a finite number within bounds, or a whole one; a truth value is none."""
    kind = Integral if whole else Real
    return isinstance(value, kind) and not isinstance(value, bool) and not out_of_bounds(value)


def out_of_bounds(value: Any) -> str:
    """Why a value that somebody gives is refused whatever it is for, in words; "" where it may be worth a look.

    Args:
        value: a number, a text, or lists, tuples and mappings of such; anything else is passed over.
    """
    left, seen = [(value, 0)], 0
    while left:
        each, depth = left.pop()
        seen += 1
        if depth > _DEEPEST:
            return "is nested too deep"
        if seen > _PARTS:
            return f"has more than {_PARTS:,} parts"
        if isinstance(each, str) and len(each) > _LONGEST:
            return f"has more than {_LONGEST:,} characters"
        if isinstance(each, Real) and not isinstance(each, int) and not math.isfinite(each):
            return "is no finite number"
        if isinstance(each, Real) and abs(each) > LARGEST_WHOLE:  # type: ignore[operator]
            return f"is more than {LARGEST_WHOLE:,}"
        if isinstance(each, Mapping):
            left += ((part, depth + 1) for pair in each.items() for part in pair)
        elif isinstance(each, list | tuple | set | frozenset):
            left += ((part, depth + 1) for part in each)
    return ""


# --- how numbers read ----------------------------------------------------------------------------------


def human_count(count: float) -> str:
    """134515008 -> "134.5 M"."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def percent(share: float) -> str:
    """-0.0789 -> "−8%", with a true minus sign."""
    return f"{share:+.0%}".replace("-", "−").replace("+0%", "0%").replace("−0%", "0%")


def ranges(numbers: Sequence[int]) -> str:
    """[3, 9, 10, 11] -> "3 and 9 to 11"; of whole numbers that ascend, three or more in a row are a range."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [text for run in runs for text in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))]
    return " and ".join([*([", ".join(texts[:-1])] if len(texts) > 1 else []), *texts[-1:]])


def duration(seconds: float) -> str:
    """83 -> "1 min 23 s"; 180 -> "3 min"; from two days on in days, from two years on in years."""
    days = seconds / 86_400
    if days >= 2:
        return f"{days / 365.25:,.0f} years" if days >= 2 * 365.25 else f"{days:,.0f} days"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    if minutes:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    return f"{rest} s"


def softmax(values: Sequence[float]) -> list[float]:
    """The exp of each value over the sum of all: weights that sum to 1."""
    highest = max(values)
    raised = [math.exp(value - highest) for value in values]
    whole = math.fsum(raised)
    return [each / whole for each in raised]
