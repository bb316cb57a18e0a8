from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from come.errors import ComeError
from come.pruning.allocate import allocate, check_ratio, most_sensitive, pair_ratio, ratio_from_influence
from come.pruning.windows import check_windows, choose, window_size

influences = st.lists(st.floats(1e-6, 2.0), min_size=2, max_size=8)


@given(influences, st.floats(0, 4), st.floats(0, 1), st.integers(0, 20))
def test_a_ratio_sums_to_one_and_respects_the_floor(
    influence: list[float], exponent: float, floor: float, more: int
) -> None:
    stands_for = len(influence) + more
    ratio = ratio_from_influence(influence, exponent, floor, stands_for)
    assert sum(ratio) == pytest.approx(1)
    assert min(ratio) >= 0
    assert max(ratio) >= floor ** (1 / (stands_for - 1)) - 1e-9


@given(influences, st.integers(1, 300))
def test_an_allocation_hands_out_every_unit(influence: list[float], units: int) -> None:
    ratio = ratio_from_influence(influence, 1.0, 0.0, len(influence))
    counts = allocate(units, ratio)
    assert sum(counts) == units
    assert min(counts) >= 0
    largest = ratio.index(max(ratio))
    for at, (count, share) in enumerate(zip(counts, ratio, strict=True)):
        assert at == largest or count == int(units * share)


@given(st.integers(1, 30000), st.integers(1, 200), st.data())
def test_a_pair_shares_out_by_whole_numbers(units: int, of: int, data: st.DataObject) -> None:
    steps = data.draw(st.integers(0, of))
    floors = units * steps // of, units * (of - steps) // of
    first = units - floors[1] if 2 * steps >= of else floors[0]
    assert allocate(units, pair_ratio(steps, of)) == [first, units - first]
    assert [float(share) for share in pair_ratio(steps, of)] == [steps / of, (of - steps) / of]


def test_ratios_by_hand() -> None:
    assert ratio_from_influence([1.0, 3.0], 1.0, 0.0, 2) == [0.25, 0.75]
    assert ratio_from_influence([1.0, 3.0], 2.0, 0.0, 2) == pytest.approx([0.1, 0.9])
    assert ratio_from_influence([1.0, 3.0], 0.0, 0.0, 2) == [0.5, 0.5]
    assert ratio_from_influence([0.0, 0.0], 1.0, 0.0, 2) == [0.5, 0.5]
    # floor 0.81 over a window that stands for three layers: at least 0.9 for the largest.
    assert ratio_from_influence([1.0, 3.0], 1.0, 0.81, 3) == pytest.approx([0.1, 0.9])
    assert ratio_from_influence([1.0, 1.0, 2.0], 1.0, 0.64, 3) == pytest.approx([0.1, 0.1, 0.8])
    assert allocate(9, [0.5, 0.5]) == [5, 4], "the first of equal shares takes the rest"
    assert allocate(3, [0.3, 0.7]) == [0, 3]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50), st.data())
def test_the_most_sensitive_units_are_kept_in_their_order(values: list[float], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(values)))
    kept = most_sensitive(torch.tensor(values), count)
    assert kept == sorted(set(kept))
    assert len(kept) == count
    dropped = [values[i] for i in range(len(values)) if i not in kept]
    assert not kept or not dropped or min(values[i] for i in kept) >= max(dropped)


def test_the_first_of_equal_units_wins() -> None:
    assert most_sensitive(torch.tensor([1.0, 2.0, 1.0, 1.0]), 2) == [0, 1]


@pytest.mark.parametrize(
    ("ratio", "words"),
    [((0.5, 0.6), "sum to 1"), ((-0.5, 1.5), "sum to 1"), ((1.0,), "1 shares"), ((float("nan"), 1.0), "sum to 1")],
)
def test_an_impossible_ratio_is_refused(ratio: tuple[float, ...], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        check_ratio(ratio, 2)


def test_the_last_window_is_shorter() -> None:
    assert window_size(3, 10, 5) == 3
    assert window_size(3, 10, 9) == 2
    assert window_size(2, 10, 9) == 2


def test_the_lowest_window_is_chosen_the_first_on_ties() -> None:
    values = torch.tensor([0.3, 0.1, 0.1, 0.2])
    fresh = [False] * 5
    assert choose(values, 2, fresh, True) == (1, 2)
    merged = [False, False, True, False, False]
    assert choose(values, 2, merged, False) == (1, 2)
    assert choose(values, 2, merged, True) == (3, 4)
    assert choose(values, 2, [False, True, False, True, False], True) == (1, 2), "no window is left: all count"


@given(st.lists(st.tuples(st.integers(-2, 12), st.integers(-2, 12)), max_size=4))
def test_windows_by_hand_are_disjoint_and_in_range_or_refused(windows: list[tuple[int, int]]) -> None:
    layers = [layer for first, last in windows for layer in range(first, last + 1)]
    fits = all(0 <= first < last < 10 for first, last in windows) and len(layers) == len(set(layers))
    if fits:
        assert check_windows(windows, 10) == sorted(windows)
    else:
        with pytest.raises(ComeError):
            check_windows(windows, 10)
