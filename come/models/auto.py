"""Transformers' classes that find a model's own: imported here, and from here where they are used.

Transformers puts another module in its place while it is imported. A thread that asks for it meanwhile is left with the
first one, which lacks these names; it waits for a module that stays the same, as this one does.
"""

from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

__all__ = ["AutoConfig", "AutoModelForCausalLM", "AutoTokenizer"]
