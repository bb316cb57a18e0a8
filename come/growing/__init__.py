"""Growing a model: more decoder layers than it has, to train further, or to see whether pruning finds them again."""

from come.growing.grow import Grown, grow
from come.growing.registry import growths

__all__ = ["Grown", "grow", "growths"]
