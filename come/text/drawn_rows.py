"""Rows drawn from a set, as published programs draw their calibration text: "wikitext2:rows=256,seed=10".

All rows are shuffled as Hugging Face's ``Dataset.shuffle`` does, the first so many are joined by empty lines, and the
tokens of that are taken in order. Rows that hold nothing count, as they do there.
"""

from __future__ import annotations

import numpy as np

from come.errors import ComeError
from come.settings import rows_of
from come.text import hub
from come.text.documents import Content, Split
from come.text.own_text import lines_of


def is_drawn(name: str) -> bool:
    """Whether a text is some rows of another."""
    return rows_of(name) is not None


def draw(name: str, split: Split) -> Content:
    """The rows that a name asks for, as one text.

    Raises:
        ComeError: it is to judge on, there are not so many rows, or the set has no rows that can be drawn here.
    """
    found = rows_of(name)
    assert found is not None
    text, count, seed = found
    if split == "evaluation":
        raise ComeError(f"Rows drawn from {text} are to calibrate on; the rest of it is not kept apart.", _JUDGE)
    rows = hub.rows(text) if text in hub.SETS else lines_of(text)
    if count > len(rows):
        raise ComeError(f"{text} has {len(rows):,} rows, and {count:,} were asked for.", "Ask for fewer.")
    order = np.random.default_rng(seed).permutation(len(rows))[:count]
    return Content("\n\n".join(rows[at] for at in order), f"{count:,} of {len(rows):,} rows, drawn by the seed {seed}")


_JUDGE = "Name a text for the evaluation, such as python-docs, or a set of its own parts."
