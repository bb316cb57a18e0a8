"""Judging a model: how well it predicts text that it was not calibrated on."""

from come.evaluate.perplexity import Perplexity, measure_perplexity, perplexity

__all__ = ["Perplexity", "measure_perplexity", "perplexity"]
