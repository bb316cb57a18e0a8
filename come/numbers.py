"""How large numbers may be that somebody gives, and how large a perplexity is told and written."""

from __future__ import annotations

LARGEST_WHOLE = 10**15  # of what is asked for: sums and products of two of them stay finite
LARGEST_PERPLEXITY = 1e30  # a mean loss of 69 nats; a guess among the tokens of the largest vocabularies has 13


def perplexity_text(value: float, spec: str = ",.2f") -> str:
    """A perplexity by a format, such as "59.62"; "> 1e30" for one that is too large to tell from others."""
    return f"> {LARGEST_PERPLEXITY:.0e}".replace("+", "") if value >= LARGEST_PERPLEXITY else format(value, spec)
