"""Merging layers: plans, what to merge and what to keep, the new layer, the progressive loop."""

from come.merge.draft import DraftWindow, draft
from come.merge.forecast import Forecast, forecast
from come.merge.plan import Base, Plan
from come.merge.rebuild import rebuild, replay
from come.merge.registry import Method, methods
from come.merge.result import Result, StepRecord
from come.merge.steps import Average, Concatenate, Mask, Remove, Replace, Step

__all__ = [
    "Average",
    "Base",
    "Concatenate",
    "DraftWindow",
    "Forecast",
    "Mask",
    "Method",
    "Plan",
    "Remove",
    "Replace",
    "Result",
    "Step",
    "StepRecord",
    "draft",
    "forecast",
    "methods",
    "rebuild",
    "replay",
]
