"""What CoMe is compared with: one small file a method. A new file registers itself by being imported here."""

from come.baselines import random, shortgpt

__all__ = ["random", "shortgpt"]
