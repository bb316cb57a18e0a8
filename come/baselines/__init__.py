"""What CoMe is compared with: one small file a method. A new file registers itself by being imported here."""

from come.baselines import (
    deeper,
    finercut,
    fisher,
    inheritune,
    laco,
    magnitude,
    mka,
    random,
    reverse,
    shortgpt,
    skip,
    sleb,
    slm,
    streamline,
    taylor,
)

__all__ = [
    "deeper",
    "finercut",
    "fisher",
    "inheritune",
    "laco",
    "magnitude",
    "mka",
    "random",
    "reverse",
    "shortgpt",
    "skip",
    "sleb",
    "slm",
    "streamline",
    "taylor",
]
