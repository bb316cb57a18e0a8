"""What a pruned model is, as data: the steps of a plan, and which unit came from where. No tensor is touched."""

from come.plan.plan import Base, Plan
from come.plan.steps import Average, Concatenate, Mask, Remove, Replace, Step

__all__ = ["Average", "Base", "Concatenate", "Mask", "Plan", "Remove", "Replace", "Step"]
