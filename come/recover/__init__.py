"""Recovery: giving a pruned model back what its size allows. A new way is imported in ``ways``."""

from come.recover.recover import recover
from come.recover.registry import Way, ways

__all__ = ["Way", "recover", "ways"]
