"""Times in words: what is nought is left out."""

from __future__ import annotations

import pytest

from come.numbers import duration

DAY = 86_400
LONG = [(2 * DAY - 1, "47 h 59 min"), (2 * DAY, "2 days"), (729 * DAY, "729 days"), (731 * DAY, "2 years")]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.6, "1 min"), (83, "1 min 23 s"), (180, "3 min"), (3600, "1 h"), (3660, "1 h 1 min"), *LONG],
)
def test_a_time_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words
