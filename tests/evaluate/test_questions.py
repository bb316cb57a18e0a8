"""The bundled questions: whole, without doubles, without a way to be right unread, and frozen."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from difflib import SequenceMatcher
from typing import Any

import pytest

from come.evaluate.tasks.questions import FOLDER, SHA256, TITLES, bundled_questions

CHOICES = {"physical_sense": 2, "what_happens_next": 4, "school_science": 4, "facts_cloze": 4}
LONGEST = {2: (0.40, 0.60), 4: (0.15, 0.35)}  # how often the right choice may be the longest

every_set = pytest.mark.parametrize("name", CHOICES)


def test_these_are_all() -> None:
    assert CHOICES.keys() == TITLES.keys() == SHA256.keys() == {path.stem for path in FOLDER.glob("*.jsonl")}


@every_set
def test_no_item_has_changed_since_a_model_first_saw_them(name: str) -> None:
    assert hashlib.sha256((FOLDER / f"{name}.jsonl").read_bytes()).hexdigest() == SHA256[name]


@every_set
def test_each_is_whole(name: str) -> None:
    items = _items(name)
    assert len(items) == len(bundled_questions(name)) >= 200
    assert len({item["id"] for item in items}) == len(items)
    for item in items:
        assert item.keys() == {"id", "question", "choices", "answer"}
        assert len(item["choices"]) == len({_plain(choice) for choice in item["choices"]}) == CHOICES[name], item
        assert item["answer"] in range(CHOICES[name])
        for text in (item["question"], *item["choices"]):
            assert text == " ".join(text.split()) and text.isprintable(), item


@every_set
def test_no_two_are_alike(name: str) -> None:
    whole = [
        (item["id"], _plain(f"{item['question']} {item['choices'][item['answer']]}"), _plain(item["question"]))
        for item in _items(name)
    ]
    alike = [
        (one, other)
        for (one, whole_one, question_one), (other, whole_other, question_other) in itertools.combinations(whole, 2)
        if question_one == question_other or _near(whole_one, whole_other) or _near(question_one, question_other)
    ]
    assert alike == []


def test_no_question_is_in_two_sets() -> None:
    counts = Counter(_plain(item["question"]) for name in CHOICES for item in _items(name))
    assert [question for question, count in counts.items() if count > 1] == []


@every_set
def test_no_place_is_right_more_often(name: str) -> None:
    items = _items(name)
    share = len(items) / CHOICES[name]
    counts = Counter(item["answer"] for item in items)
    assert all(abs(counts[place] - share) <= 0.2 * share for place in range(CHOICES[name])), counts


@every_set
def test_no_length_is_right_more_often(name: str) -> None:
    items = _items(name)
    lengths = [[len(choice) for choice in item["choices"]] for item in items]
    right = [each[item["answer"]] for each, item in zip(lengths, items, strict=True)]
    longest = sum((own == max(each)) / each.count(max(each)) for own, each in zip(right, lengths, strict=True))
    lowest, highest = LONGEST[CHOICES[name]]
    assert lowest <= longest / len(items) <= highest
    wrong = (sum(map(sum, lengths)) - sum(right)) / (len(items) * (CHOICES[name] - 1))
    assert sum(right) / len(items) == pytest.approx(wrong, rel=0.05)


@every_set
def test_they_do_not_begin_alike(name: str) -> None:
    items = _items(name)
    openings = Counter(" ".join(item["question"].lower().split()[:2]) for item in items)
    assert openings.most_common(1)[0][1] <= 0.25 * len(items), openings.most_common(3)


def _items(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{name}.jsonl").read_text("utf-8").splitlines()]


def _plain(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))


def _near(one: str, other: str) -> bool:
    words, others = set(one.split()), set(other.split())
    if len(words & others) > 0.9 * len(words | others):
        return True
    matcher = SequenceMatcher(None, one, other, autojunk=False)
    return all(ratio() > 0.9 for ratio in (matcher.real_quick_ratio, matcher.quick_ratio, matcher.ratio))
