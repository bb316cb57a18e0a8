"""Stability: answers right and wrong as the original's, weighted by how far apart its choices are."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from come.evaluate import Accuracy, stability, stability_by_task
from come.report import comparison, measured, metrics
from come.report.paired import difference
from come.report.points import points
from come.request import RunConfig
from come.runs.execute import execute
from come.runs.store import create
from tests.tiny import tiny_folder


def test_it_is_the_share_of_answers_alike_weighted_by_the_spread() -> None:
    spreads, original, pruned = [0.0, np.log(2), np.log(3), 0.0], [1, 1, 0, 0], [1, 0, 0, 1]
    value, stderr = stability(spreads, original, pruned)
    assert value == pytest.approx((1 + 3) / 7)  # the first and the third, not merely two of them, as published
    weights, same = np.array([1, 2, 3, 1]) / 7, np.array([1, 0, 1, 0])
    assert stderr == pytest.approx(np.sqrt((weights**2 * (same - value) ** 2).sum() * 4 / 3))
    assert stability(spreads, original, original) == (pytest.approx(1), pytest.approx(0))
    assert stability([0.3] * 4, original, pruned)[0] == pytest.approx(0.5), "as one weighs, so do all"
    assert stability([500.0, 0.0], [1, 1], [1, 0])[0] == pytest.approx(1), "large spreads do not overflow"
    assert stability([0.5], [1], [0]) == (0.0, None)


def test_its_error_is_that_of_repeated_draws() -> None:
    generator = np.random.default_rng(0)
    draws, items = 4000, 300
    spreads = generator.random((draws, items))
    same = generator.random((draws, items)) < 0.6 + 0.3 * (spreads > 0.5)
    weights = np.exp(spreads) / np.exp(spreads).sum(1, keepdims=True)
    values = (weights * same).sum(1)
    value, stderr = stability(spreads[0].tolist(), [1] * items, same[0].astype(int).tolist())
    assert value == pytest.approx(values[0])
    assert stderr == pytest.approx(values.std(), rel=0.15)


def test_only_the_same_questions_compare() -> None:
    def scored(hits: list[int], questions: str, spreads: list[float]) -> Accuracy:
        return Accuracy({"acc": sum(hits) / 2, "items": 2, "chance": 0.5}, {"acc": hits}, questions, spreads)

    before = {"a": scored([1, 0], "q", [0.1, 0.2]), "b": scored([1, 0], "q", [0.1, 0.2]), "c": scored([1, 0], "q", [])}
    after = {"a": scored([1, 1], "q", [9.0, 9.0]), "b": scored([1, 0], "other", []), "c": before["c"], "d": before["a"]}
    found = stability_by_task(before, after)
    assert list(found) == ["a"]
    assert found["a"] == stability([0.1, 0.2], [1, 0], [1, 1])


@pytest.mark.slow
def test_a_run_has_it_and_two_runs_compare_by_it(tmp_path: Path) -> None:
    draw = random.Random(0)
    words = ["warm", "cold and wet", "a", "of wood", "never seen"]
    rows = [
        {"question": f"Thing {number} is", "choices": draw.sample(words, 3), "answer": draw.randrange(3)}
        for number in range(30)
    ]
    tasks = tmp_path / "mine.jsonl"
    tasks.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    folder, runs = tiny_folder(tmp_path, layers=4), []
    for target in (2, 3):
        config = RunConfig(
            model=str(folder), method="reverse", target_layers=target, n_tokens=64, seq_len=32,
            evaluate=["acc"], tasks=[str(tasks)],
        )  # fmt: skip
        runs.append(create(config, tmp_path / "runs"))
        execute(runs[-1])
    pruned = []
    for run in runs:
        results = run.results()
        hits = [[int(hit) for hit in results[side]["hits"]["mine.jsonl"]] for side in ("original", "pruned")]
        value, stderr = stability(results["original"]["spreads"]["mine.jsonl"], *hits)
        assert results["pruned"]["stability"]["mine.jsonl"] == {"value": value, "stderr": stderr}
        item = comparison.entry(run)
        assert item is not None and item.pruned is not None
        assert item.pruned.values["stability/mine.jsonl"] == measured.Value(value, stderr, basis=30)
        assert np.mean(item.pruned.samples["stability/mine.jsonl"].each) == pytest.approx(value)
        pruned.append(item.pruned)
    metric = metrics.metric("stability")
    assert metric in metrics.measured(pruned) and metric.original == 1
    drawn = sorted(points(pruned, metric, metrics.LAYERS), key=lambda point: point.layers or 0)
    found = difference(drawn[0], drawn[1], metric)
    assert found.paired and found.of == "question" and found.count == 30
    assert found.value == pytest.approx(drawn[0].value - drawn[1].value)
