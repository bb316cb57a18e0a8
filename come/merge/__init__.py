"""Merging layers: plans, what to merge and what to keep, the new layer, the progressive loop."""

from come.merge.draft import DraftWindow, draft
from come.merge.plan import Base, Concatenate, Plan, Remove
from come.merge.rebuild import rebuild, replay
from come.merge.registry import Method, methods
from come.merge.result import Result, StepRecord

__all__ = [
    "Base",
    "Concatenate",
    "DraftWindow",
    "Method",
    "Plan",
    "Remove",
    "Result",
    "StepRecord",
    "draft",
    "methods",
    "rebuild",
    "replay",
]
