"""How large a perplexity is told, and how it is written in a line of text or a table."""

from __future__ import annotations

LARGEST_PERPLEXITY = 1e30  # a mean loss of 69 nats; a guess among the tokens of the largest vocabularies has 13


def perplexity_text(value: float, spec: str = ",.2f") -> str:
    """A perplexity by a format, such as "59.62"; "> 1e30" for one that is too large to tell from others."""
    return f"> {LARGEST_PERPLEXITY:.0e}".replace("+", "") if value >= LARGEST_PERPLEXITY else format(value, spec)
