"""Finding, loading and describing models."""

from come.models.bundle import Bundle
from come.models.catalogue import KnownModel, known_models
from come.models.facts import Facts, describe
from come.models.families import FAMILIES, family_of
from come.models.family import Family, Fused, Shape, shape_of
from come.models.load import load

__all__ = [
    "FAMILIES",
    "Bundle",
    "Facts",
    "Family",
    "Fused",
    "KnownModel",
    "Shape",
    "describe",
    "family_of",
    "known_models",
    "load",
    "shape_of",
]
