"""What is told of a method before it runs, against what it then does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import come
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Bundle, Facts, describe
from come.pruning.compress import forecast
from come.pruning.registry import methods
from come.pruning.windows import WindowCost, windows_by_cost
from tests.tiny import tiny_folder, tiny_tokens

TOKENS = tiny_tokens(4, 12)
# Where nothing is in doubt: the method, and options with which that holds.
SURE: tuple[tuple[str, dict[str, Any]], ...] = (
    ("shortgpt", {}),
    ("reverse", {}),
    ("reverse", {"keep_last": 1}),
    ("skip", {}),
    ("random", {"seed": 7}),
)
NEEDS_NO_TEXT = ("inheritune", "random", "reverse", "skip")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Facts, Measurement]:
    """A tiny model, its facts, and what was measured of it."""
    folder = str(tiny_folder(Path(tmp_path_factory.mktemp("model"))))
    bundle = come.load(folder)
    return bundle, describe(folder), come.measure(bundle, TOKENS, similarity=("cosine", "angular"))


def groups(windows: list[tuple[int, int]], removed: list[int], layers: int) -> list[list[int]]:
    """The layers of a pruned model, each as the original ones that it stands for."""
    joined = {layer: list(range(first, last + 1)) for first, last in windows for layer in range(first, last + 1)}
    found = [joined.get(layer, [layer]) for layer in range(layers) if layer not in removed]
    return [group for place, group in enumerate(found) if not place or group != found[place - 1]]


@pytest.mark.parametrize("target", [1, 3, 5])
@pytest.mark.parametrize(("name", "options"), SURE)
def test_what_is_not_in_doubt_is_what_a_run_does(
    model: tuple[Bundle, Facts, Measurement], name: str, options: dict[str, Any], target: int
) -> None:
    bundle, facts, measured = model
    found = forecast(name, options, target, facts, measured)
    assert found is not None and not found.doubt and not found.windows
    plan = come.compress(bundle, TOKENS, name, target_layers=target, **options).plan
    assert plan.groups() == groups([], found.removed, facts.layers)


@pytest.mark.parametrize("target", [1, 3, 5])
def test_the_block_of_lowest_distance_is_foreseen_with_a_doubt(
    model: tuple[Bundle, Facts, Measurement], target: int
) -> None:
    bundle, facts, measured = model
    found = forecast("deeper", {"distance_tokens": "all"}, target, facts, measured)
    assert found is not None and "negative cosines" in found.doubt
    plan = come.compress(bundle, TOKENS, "deeper", target_layers=target, distance_tokens="all").plan
    assert plan.groups() == groups([], found.removed, facts.layers)  # here no cosine is negative
    last = forecast("deeper", {}, target, facts, measured)
    assert last is not None and "last token" in last.doubt


@pytest.mark.parametrize(
    ("name", "options"),
    [("shortgpt", {}), ("deeper", {}), ("come", {}), ("come", {"windows": [(1, 2)]}), ("come-p", {})],
)
def test_another_last_state_than_was_measured_is_a_doubt(
    model: tuple[Bundle, Facts, Measurement], name: str, options: dict[str, Any]
) -> None:
    _, facts, measured = model
    for state in ("raw", "normed"):
        found = forecast(name, {**options, "last_state": state}, 5, facts, measured)
        assert found is not None and ("takes the raw last state" in found.doubt) == (state == "raw")


def test_windows_by_hand_are_what_a_run_does_channel_by_channel(model: tuple[Bundle, Facts, Measurement]) -> None:
    bundle, facts, measured = model
    options: dict[str, Any] = {"windows": [(1, 2)], "ratios": [(0.25, 0.75)], "drop": [4]}
    found = forecast("come", options, 4, facts, measured)
    assert found is not None and not found.doubt and found.removed == [4]
    plan = come.compress(bundle, TOKENS, "come", **options).plan
    (window,) = found.windows
    assert plan.groups() == groups([(window.first, window.last)], found.removed, facts.layers)
    assert (plan.steps[0].channels, plan.steps[0].kv_groups) == (window.kept_channels, window.kept_kv)


@pytest.mark.parametrize("name", ["come", "come-p"])
def test_the_first_window_of_a_progressive_method_is_sure_and_the_rest_in_doubt(
    model: tuple[Bundle, Facts, Measurement], name: str
) -> None:
    bundle, facts, measured = model
    found = forecast(name, {}, facts.layers - 1, facts, measured)
    assert found is not None and "measures again" in found.doubt
    result = come.compress(bundle, TOKENS, name, target_layers=facts.layers - 1)
    assert [(window.first, window.last) for window in found.windows] == [result.history[0].window]


def test_without_a_measurement_only_what_reads_no_text_is_told(model: tuple[Bundle, Facts, Measurement]) -> None:
    _, facts, _ = model
    known = [name for name, method in methods().items() if method.forecast is not None]
    assert sorted(name for name in known if forecast(name, {}, 4, facts) is not None) == sorted(NEEDS_NO_TEXT)
    by_hand = forecast("come", {"windows": [], "drop": [2]}, 5, facts)
    assert by_hand is not None and (by_hand.windows, by_hand.removed) == ([], [2])


def test_where_all_layers_stay_nothing_is_done(model: tuple[Bundle, Facts, Measurement]) -> None:
    _, facts, measured = model
    for name, method in methods().items():
        if method.forecast is not None:
            found = forecast(name, {}, facts.layers, facts, measured)
            assert found is not None and (found.windows, found.removed) == ([], []), name


def test_a_method_that_only_a_run_tells_of_and_what_cannot_be(model: tuple[Bundle, Facts, Measurement]) -> None:
    _, facts, measured = model
    assert methods()["sleb"].forecast is None and forecast("sleb", {}, 4, facts, measured) is None
    with pytest.raises(ComeError, match="keep"):
        forecast("reverse", {"keep_last": 5}, 4, facts, measured)
    with pytest.raises(ComeError, match="no option"):
        forecast("shortgpt", {"exponent": 1}, 4, facts, measured)
    for target in (0, facts.layers + 1):
        with pytest.raises(ComeError):
            forecast("skip", {}, target, facts, measured)


def costing(merged: dict[tuple[int, int], float], refitted: float = 9.0) -> list[WindowCost]:
    """What merging windows costs, made up."""
    return [
        WindowCost(first, last, 0.1, each, 9.0, removal_refitted=refitted, stays=first, by_sequence=(each,) * 4)
        for (first, last), each in merged.items()
    ]


def test_measured_costs_decide_once_all_are_known_that_a_run_tries(model: tuple[Bundle, Facts, Measurement]) -> None:
    _, facts, measured = model

    def told(costs: list[WindowCost], **options: Any) -> tuple[list[tuple[int, int]], str]:
        found = forecast("come-joint", options, 4, facts, measured, costs)
        assert found is not None and found.fitted
        return [(window.first, window.last) for window in found.windows], found.by

    threes = windows_by_cost(facts, measured.block_influence, 3, 3)
    assert told([]) == ([threes[0]], "influence")
    worst_last = {window: 0.5 + place for place, window in enumerate(reversed(threes))}
    assert told(costing(worst_last)) == ([threes[-1]], "cost")
    tried = {window: worst_last[window] for window in threes[:2]}
    assert told(costing(tried), windows_tried=3) == ([threes[0]], "influence")
    assert told(costing(tried), windows_tried=2) == ([threes[1]], "cost")
    # Where what is cheapest is so by chance, or on one kind of text alone, the best that a run would try is taken.
    (best,) = costing({threes[-1]: 0.5})
    for by_sequence in ((9.0, 0.1, 0.1, 0.1), (0.1, 0.1, 3.9, 3.9), (0.5, 0.5)):
        doubtful = replace(best, by_sequence=by_sequence)
        assert told([doubtful, *costing(dict.fromkeys(threes[:-1], 3.0))]) == ([threes[0]], "cost")
    # What a run would find cheaper, or was measured otherwise than it merges, is left to it.
    assert told(costing(worst_last, refitted=0.1)) == ([threes[0]], "influence")
    for options in ({"score": "loss"}, {"lookahead": 0.5}, {"strengths": [1.0]}, {"attention": "chosen"}):
        assert told(costing(worst_last), **options) == ([threes[0]], "influence")
    assert told(costing(worst_last), span=2)[1] == "influence"


def test_windows_by_hand_of_a_method_that_fits_them_are_told_with_a_doubt(
    model: tuple[Bundle, Facts, Measurement],
) -> None:
    _, facts, measured = model
    options = {"windows": [(3, 5), (0, 1)], "drop": [2]}
    found = forecast("come-joint", options, 2, facts, measured)
    assert found is not None and found.fitted and found.by == ""
    assert [(window.first, window.last) for window in found.windows] == [(0, 1), (3, 5)]
    assert found.removed == [2] and "solved for" in found.doubt
    assert forecast("come-joint", options, 2, facts) is None
