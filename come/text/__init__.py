"""Calibration and evaluation text: where it comes from, and how it becomes batches of tokens."""

from come.text.sources import SELF, TextSource, describe_text, known_texts, read, text_hash
from come.text.start import begins_with, start_of_text
from come.text.tokens import SPLITS, tokens

__all__ = [
    "SELF",
    "SPLITS",
    "TextSource",
    "begins_with",
    "describe_text",
    "known_texts",
    "read",
    "start_of_text",
    "text_hash",
    "tokens",
]
