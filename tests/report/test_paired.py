"""Differences on the same tokens and questions: their means, their errors, what can be said of them."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from statistics import fmean, stdev

import pytest

from come.report import paired
from come.report.measured import Result, Sample
from come.report.metrics import PERPLEXITY, metric
from come.report.points import Point, points
from tests.app.synthetic import answered, read

HARD = [3.1, 3.9, 4.4, 2.8, 3.6, 4.0, 3.3, 3.7]


def point(*results: Result, key: str = "perplexity") -> Point:
    (found,) = points(results, metric(key))
    return found


def test_the_error_is_that_of_the_differences() -> None:
    more = [0.2, 0.1, 0.3, 0.2, 0.1, 0.2, 0.3, 0.2]
    worse = [loss + each for loss, each in zip(HARD, more, strict=True)]
    found = paired.difference(point(read("sleb", 27, worse)), point(read("come", 27, HARD)), PERPLEXITY)
    assert found.paired and found.count == 8 and found.of == "sequence" and found.told == "worse"
    assert found.value == pytest.approx(fmean(more))
    assert found.stderr == pytest.approx(stdev(more) / math.sqrt(8))
    assert found.reach == pytest.approx(2.3646 * found.stderr, rel=1e-3)  # Student's t of seven degrees
    assert paired.say(found, PERPLEXITY) == "× 1.22 (1.15–1.30)"
    assert paired.say(found, PERPLEXITY, named=True) == "× 1.22 (95%: 1.15–1.30)"
    back = paired.difference(point(read("come", 27, HARD)), point(read("sleb", 27, worse)), PERPLEXITY)
    assert back.told == "better" and back.value == pytest.approx(-found.value)


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    luck = random.Random(7)
    held = 0
    for _ in range(400):
        base = [luck.gauss(3.5, 0.5) for _ in range(8)]
        other = [loss + 0.1 + luck.gauss(0, 0.08) for loss in base]
        found = paired.difference(point(read("sleb", 27, other)), point(read("come", 27, base)), PERPLEXITY)
        held += abs(found.value - 0.1) <= (found.reach or 0.0)
    assert 0.92 < held / 400 < 0.98


def test_seeds_add_their_spread() -> None:
    def seeds(method: str, *above: float) -> Point:
        return point(*(read(method, 27, [loss + up for loss in HARD], seed=seed) for seed, up in enumerate(above)))

    alike = paired.difference(seeds("sleb", 0.5, 0.5, 0.5), seeds("come", 0.1, 0.1, 0.1), PERPLEXITY)
    assert alike.value == pytest.approx(0.4) and alike.stderr == pytest.approx(0.0, abs=1e-9)
    apart = paired.difference(seeds("sleb", 0.3, 0.5, 0.7), seeds("come", 0.1, 0.1, 0.1), PERPLEXITY)
    assert apart.stderr == pytest.approx(0.2 / math.sqrt(3))
    assert apart.told == "open"  # three seeds that differ so much say little
    together = paired.difference(seeds("sleb", 0.3, 0.5, 0.7), seeds("come", 0.1, 0.3, 0.5), PERPLEXITY)
    assert together.stderr == pytest.approx(0.0, abs=1e-9)  # each seed is as hard for both


def test_other_tokens_are_not_paired() -> None:
    come, other = read("come", 27, HARD), read("sleb", 27, [loss + 0.5 for loss in HARD])
    elsewhere = replace(other, samples={"perplexity": Sample(other.samples["perplexity"].each, "another text")})
    found = paired.difference(point(elsewhere), point(come), PERPLEXITY)
    assert not found.paired and found.told == "open" and found.value == pytest.approx(0.5)
    assert found.stderr == pytest.approx(math.sqrt(2) * stdev(HARD) / math.sqrt(8))


def test_one_sequence_has_no_error() -> None:
    found = paired.difference(point(read("sleb", 27, [4.0])), point(read("come", 27, [3.0])), PERPLEXITY)
    assert found.stderr is None and found.told == "open"


def test_tasks_count_alike() -> None:
    def both(method: str, first: str, second: str) -> Result:
        one, two = answered(method, first, task="a"), answered(method, second, task="b")
        values = dict(one.values) | dict(two.values)
        mean = replace(values["accuracy"], basis=(("a", len(first)), ("b", len(second))))
        return replace(one, values=values | {"accuracy": mean}, samples=dict(one.samples) | dict(two.samples))

    come, other = both("come", "1" * 40, "10" * 10), both("sleb", "10" * 20, "01" * 10)
    found = paired.difference(point(come, key="accuracy"), point(other, key="accuracy"), metric("accuracy"))
    assert found.value == pytest.approx((0.5 + 0.0) / 2) and found.count == 60 and found.of == "question"
    assert found.told == "better" and paired.say(found, metric("accuracy")).startswith("+25.0 (")


def test_few_questions_say_nothing_however_clear_they_look() -> None:
    come, other = point(answered("come", "1" * 20), key="accuracy"), point(answered("sleb", "0" * 20), key="accuracy")
    found = paired.difference(come, other, metric("accuracy"))
    assert found.few and found.told == "open"


def test_speeds_have_no_difference_with_an_error() -> None:
    assert not paired.can_differ(metric("decode"))
    assert paired.can_differ(metric("retention/cloze_facts"))
