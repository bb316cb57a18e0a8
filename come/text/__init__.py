"""Calibration and evaluation text: where it comes from, and how it becomes batches of tokens."""

from come.text.own_text import ENDINGS, SUFFIXES
from come.text.sources import (
    SELF,
    TextSource,
    content,
    describe_text,
    form_of_text,
    known_texts,
    read,
    short_name,
    text_hash,
)
from come.text.start import begins_with, start_of_text
from come.text.tokens import SPLITS, tokens

__all__ = [
    "ENDINGS",
    "SELF",
    "SPLITS",
    "SUFFIXES",
    "TextSource",
    "begins_with",
    "content",
    "describe_text",
    "form_of_text",
    "known_texts",
    "read",
    "short_name",
    "start_of_text",
    "text_hash",
    "tokens",
]
