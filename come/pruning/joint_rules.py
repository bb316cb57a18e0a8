"""How one layer is made of a window's units together, and what that costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from come.models import Facts

AttentionOf = Literal["first", "chosen"]


@dataclass(frozen=True)
class JointRules:
    """How units are chosen and maps are solved for.

    Attributes:
        strengths: of the ridge that the FFN's map is solved with, as shares of the mean diagonal: a candidate each.
        base: the one that units are eliminated with and the attention's map is solved with.
        lookahead: of the ridge that what later layers read is predicted with; 0 for no prediction.
        pool: units are eliminated from those that add most, as many as have the inputs of so many layers' FFNs.
        attention: whether the first layer's KV groups are all kept, or those of all layers are chosen together.
    """

    strengths: tuple[float, ...] = (0.3,)
    base: float = 0.3
    lookahead: float = 0.1
    pool: int = 2
    attention: AttentionOf = "first"

    @property
    def joins_attention(self) -> bool:
        """Whether KV groups of several layers become one attention."""
        return self.attention == "chosen"


def fit_products(facts: Facts, size: int, n_tokens: int, rules: JointRules) -> float:
    """Floating-point operations in float32 of fitting a window of ``size`` layers, and all but one of them removed."""
    hidden, total, strengths = facts.hidden_size, 0.0, len(rules.strengths)
    heads = facts.num_attention_heads * facts.head_dim
    for inputs, kept, layers in (
        (heads, 1, size if rules.joins_attention else 1),
        (facts.intermediate_size, strengths, size),
    ):
        units = min(layers * inputs, rules.pool * facts.intermediate_size)
        sums = n_tokens * (units * (1.125 * units + 2 * hidden) + inputs * (1.125 * inputs + 2 * hidden))
        eliminated = (units**3 + 2 * units**2 * (hidden + units - inputs)) * (layers > 1)
        solved = 2 * kept * (inputs**3 / 3 + 2 * inputs**2 * hidden)
        total += sums + eliminated + solved
    rows = heads * (1 + 2 * facts.num_key_value_heads / facts.num_attention_heads) + 2 * facts.intermediate_size
    predicted = 2 * hidden**2 * (n_tokens * (size + 1) + hidden * size) + 2 * hidden**2 * rows / 2 * size
    return total + (1 + rules.joins_attention) * predicted * bool(rules.lookahead)
