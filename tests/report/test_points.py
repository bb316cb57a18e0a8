"""Means over seeds, what is comparable, and the Pareto front."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from come.report.chart import chart_of, notes
from come.report.measured import Value
from come.report.metrics import LAYERS, PARAMETERS, PERPLEXITY, SPARSITY, metric
from come.report.points import Point, best_by_size, front, of_original, overlap, points
from tests.app.synthetic import result

RETENTION = metric("retention")


def test_seeds_become_a_mean_with_their_spread() -> None:
    runs = [result("come", 24, value, 9.0, seed=seed) for seed, value in enumerate((80.0, 90.0, 94.0))]
    (point,) = points(runs, PERPLEXITY)
    assert point.value == pytest.approx(88.0)
    assert point.high == pytest.approx(88.0 + statistics.stdev((80.0, 90.0, 94.0)))
    assert point.bar == "spread" and point.each == (80.0, 90.0, 94.0) and len(point.runs) == 3


def test_what_no_seed_changes_keeps_its_own_error() -> None:
    (point,) = points([result("come", 24, 80.0, 3.0, seed=seed) for seed in range(3)], PERPLEXITY)
    assert (point.low, point.high, point.bar) == (77.0, 83.0, "stderr")


def test_one_run_has_its_own_error() -> None:
    (point,) = points([result("come", 24, 80.0, 3.0)], PERPLEXITY)
    assert (point.low, point.high, point.bar) == (77.0, 83.0, "stderr")
    (bare,) = points([result("come", 24, 80.0)], PERPLEXITY)
    assert (bare.low, bare.high, bare.bar) == (None, None, "")
    timed = result("come", 24, prefill=Value(1.2, quartiles=(1.1, 1.4)))
    (fast,) = points([timed], metric("prefill"))
    assert (fast.low, fast.high, fast.bar) == (1.1, 1.4, "quartiles")
    assert metric("prefill").say_with(fast.value, fast.low, fast.high) == "1.20× (1.10–1.40)"


def test_of_the_same_request_made_twice_the_newer_counts() -> None:
    newer, older = result("come", 24, 80.0), result("come", 24, 90.0)
    (point,) = points([newer, older], PERPLEXITY)
    assert point.value == 80.0


def test_values_of_another_basis_are_not_mixed_in() -> None:
    short, whole = (Value(0.5, basis=100), Value(0.6, basis=200))
    runs = [result("come", 27, accuracy=whole), result("come", 24, accuracy=whole), result("sleb", 24, accuracy=short)]
    assert {point.series for point in points(runs, metric("accuracy"))} == {"CoMe"}
    shown = chart_of(runs, [], metric("accuracy"), LAYERS)
    assert [result.method for result, _ in shown.left_out] == ["sleb"]
    assert any("other items" in note for note in notes(shown))
    original = result("original", 30, accuracy=short)
    assert of_original([original], metric("accuracy"), like=runs) is None


def test_the_original_is_measured_or_known_by_definition() -> None:
    original = result("original", 30, 40.0, 1.0)
    assert of_original([original], PERPLEXITY).value == 40.0
    assert of_original([original], RETENTION).value == 1.0
    assert of_original([original], metric("kl")).value == 0.0
    assert of_original([original], metric("bits_per_byte")) is None
    assert of_original([], RETENTION) is None


def test_a_run_without_the_metric_is_a_gap_and_is_told() -> None:
    runs = [result("come", 24, 80.0), result("sleb", 24, kl=Value(1.0)), result("mka", None, 70.0)]
    shown = chart_of(runs, [], PERPLEXITY, LAYERS)
    assert len(shown.points) == 1
    words = " ".join(notes(shown))
    assert "Not measured in SLEB, 24 layers." in words and "Layers not known of" in words
    assert len(chart_of(runs, [], PERPLEXITY, PARAMETERS).points) == 2


def test_uneven_seeds_are_told() -> None:
    even = [result("come", 24, 80.0), result("sleb", 24, 70.0)]
    assert not any("seeds" in note for note in notes(chart_of(even, [], PERPLEXITY, LAYERS)))
    uneven = [*even, result("come", 24, 82.0, seed=1)]
    assert any("same seeds" in note for note in notes(chart_of(uneven, [], PERPLEXITY, LAYERS)))


def test_the_best_of_each_method_by_size() -> None:
    runs = [result("come", 27, 60.0), result("sleb", 27, 50.0), result("come", 24, 90.0)]
    ranked = best_by_size(points(runs, PERPLEXITY), PERPLEXITY)
    assert {size: [point.method for point in some] for size, some in ranked.items()} == {
        27: ["sleb", "come"],
        24: ["come"],
    }


def test_error_bars_overlap_or_not() -> None:
    near, far, bare = points([result(name, 24, value, error) for name, value, error in
                              (("a", 10.0, 1.0), ("b", 13.0, 1.0), ("c", 11.0, None))], PERPLEXITY)  # fmt: skip
    assert not overlap(near, far) and not overlap(near, bare)
    assert overlap(near, points([result("d", 24, 11.5, 1.0)], PERPLEXITY)[0])


some_runs = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.integers(1, 8), st.integers(1, 6)), max_size=14, unique_by=lambda t: t[:2]
)


@given(runs=some_runs, size=st.sampled_from([LAYERS, PARAMETERS, SPARSITY]), higher=st.booleans())
def test_the_front_is_what_nothing_beats_in_both(runs: list, size, higher: bool) -> None:
    results = [result(name, layers, float(value), retention=Value(float(value))) for name, layers, value in runs]
    kind = RETENTION if higher else PERPLEXITY
    drawn = points(results, kind, size)
    best = {(point.series, point.layers) for point in front(drawn, kind, size)}

    def beaten(point: Point) -> bool:
        def cost(each: Point) -> tuple[float, float]:
            return (-each.size if size is SPARSITY else each.size, -each.value if higher else each.value)

        mine = cost(point)
        return any(theirs != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1] for theirs in map(cost, drawn))

    assert best == {(point.series, point.layers) for point in drawn if not beaten(point)}
    assert bool(best) == bool(drawn)


def test_a_point_that_the_original_beats_is_not_on_the_front() -> None:
    original = of_original([result("original", 30, 40.0)], PERPLEXITY)
    worse = points([result("fisher", 30, 50.0)], PERPLEXITY)
    assert front(worse, PERPLEXITY, LAYERS, original) == []
    assert front(worse, PERPLEXITY, LAYERS) == worse
