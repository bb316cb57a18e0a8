"""How many tokens go through a model to answer questions."""

from __future__ import annotations

from collections.abc import Sequence

from come.evaluate.tasks import check_tasks, questions_at_hand

CHARACTERS_A_TOKEN = 4.0
GUESSED_TOKENS = 1000 * 4 * 80  # of a task whose data are not at hand: a thousand questions of four choices


def request_tokens(tasks: Sequence[str], limit: int | None) -> int:
    """The tokens of all choices with their questions before them; a task that is not at hand is guessed."""
    total = 0.0
    for questions in map(questions_at_hand, check_tasks(tasks)):
        if questions is None:
            total += GUESSED_TOKENS * min(1.0, limit / 1000 if limit else 1.0)
            continue
        asked = questions[:limit]
        total += sum(len(each.question) + len(choice) for each in asked for choice in each.choices) / CHARACTERS_A_TOKEN
    return round(total)
