"""Finding, loading, describing and saving models."""

from come.models.bundle import Bundle
from come.models.catalogue import KnownModel, known_models
from come.models.facts import Facts, describe
from come.models.families import FAMILIES, Family, family_of
from come.models.load import load
from come.models.save import save

__all__ = [
    "FAMILIES",
    "Bundle",
    "Facts",
    "Family",
    "KnownModel",
    "describe",
    "family_of",
    "known_models",
    "load",
    "save",
]
