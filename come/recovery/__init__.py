"""Recovery: giving a pruned model back what its size allows. A new way is imported in ``ways``."""

from come.recovery.recover import recover
from come.recovery.registry import DEFAULT, Way, names_of, ways

__all__ = ["DEFAULT", "Way", "names_of", "recover", "ways"]
