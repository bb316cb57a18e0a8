"""MMLU's development questions, five a subject, as they ship inside lm-eval for few-shot prompts."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from come.errors import ComeError
from come.evaluate.tasks.names import harness_folder
from come.evaluate.tasks.questions import Question

PROMPTS = Path("tasks", "mmlu", "flan_cot_fewshot", "_cot_prompts.json")
TITLE = "MMLU's development questions, 4 choices"

# A prompt is a heading and some of these, an empty line after each. The answer is at the end of a chain of thought.
_ITEM = re.compile(
    r"^Q: (?P<question>.*?)\s+\(A\) (?P<A>.*?)\s+\(B\) (?P<B>.*?)\s+\(C\) (?P<C>.*?)\s+\(D\) (?P<D>.*?)"
    r"(?:\s+\(E\) (?P<E>.*?))?\s*\n"
    r"A: (?:(?!^Q: ).)*?answer is \(?(?P<answer>[A-E])\)?\.?\s*(?=\n\n|\Z)",
    re.DOTALL | re.MULTILINE,
)


@lru_cache(maxsize=1)
def mmlu_dev_questions() -> list[Question]:
    """The questions of all subjects, asked as lm-eval's ``mmlu_continuation`` asks.

    Raises:
        ComeError: the lm-eval that is installed ships no such file.
    """
    try:
        prompts = json.loads((harness_folder() / PROMPTS).read_text("utf-8"))
    except OSError as error:
        raise ComeError(
            "The lm-eval that is installed ships no MMLU development questions.", "Install the version required."
        ) from error
    return [_question(item) for subject in sorted(prompts) for item in _ITEM.finditer(prompts[subject])]


def _question(item: re.Match[str]) -> Question:
    choices = [item[letter] for letter in "ABCDE" if item[letter] is not None]
    answer = "ABCDE".index(item["answer"])
    return Question(question=f"Question: {item['question'].strip()}\nAnswer:", choices=choices, answer=answer)
