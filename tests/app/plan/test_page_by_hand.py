"""The plan page by hand: windows and layers merged, moved, dropped and kept, with ratios; undo and redo."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from app.plan import edits, tiles
from app.state.choice import Draft
from come.models import describe
from come.pruning import kept_units
from come.pruning.windows import WindowCost
from tests.app.conftest import Lab
from tests.app.plan.reading import chosen, shown

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


def test_windows_by_hand_can_be_added_moved_and_taken_out(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.get_by_key("aim").set_value("hand").run()
    assert not at.error
    at.button(key="preset-One pair").click().run()
    first = at.number_input(key="first-0").value
    at.number_input(key="first-0").set_value(first - 1 if first else first).run()
    at.button(key="add-window").click().run()
    assert len([each for each in at.number_input if each.key and each.key.startswith("first-")]) == 2
    at.button(key="remove-0").click().run()
    assert not at.exception
    assert len([each for each in at.number_input if each.key and each.key.startswith("first-")]) == 1


def test_tiles_drop_merge_and_keep_layers(visit: Visit) -> None:
    at = visit("plan", windows="1-2")
    at.get_by_key("layer-tiles").set_value([4]).run()
    at.button(key="tiles-drop").click().run()
    assert not at.exception and not at.error
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("1-2", "4")
    assert "<b>4</b><span>of 6</span>" in shown(at)
    table = at.dataframe[0].value
    assert list(table["Layer"]) == [1, 2, 4] and list(table["Window"]) == ["1–2", "1–2", "dropped"]
    assert list(table["Key/value (KV) groups of 4"])[2] == 0
    assert at.get_by_key("layer-tiles").value == [] and at.button(key="tiles-merge").disabled

    at.get_by_key("layer-tiles").set_value([0, 2]).run()
    assert at.button(key="tiles-merge").label == "Replace 1–2 by 0–2"
    at.button(key="tiles-merge").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("0-2", "4")
    at.get_by_key("layer-tiles").set_value([1, 4]).run()
    at.button(key="tiles-keep").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("", "")
    assert at.button(key="go-to-run").disabled
    at.button(key="undo").click().run()
    at.button(key="undo").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("1-2", "4")
    at.button(key="redo").click().run()
    assert chosen(at, "windows") == "0-2"


def test_the_button_says_which_windows_give_way(visit: Visit) -> None:
    at = visit("plan", windows="1-2")
    at = at.get_by_key("layer-tiles").set_value([2, 4]).run()
    assert at.button(key="tiles-merge").label == "Replace 1–2 by 2–4"
    at = at.get_by_key("layer-tiles").set_value([3, 4]).run()
    assert at.button(key="tiles-merge").label == "Merge 3–4"


def test_a_window_is_moved_and_dropped_instead(visit: Visit) -> None:
    at = visit("plan", windows="1-2", ratios="0.25-0.75", drop="4")
    at.button(key="up-0").click().run()
    assert chosen(at, "windows") == "2-3"
    assert list(at.dataframe[0].value["Feed-forward (FFN) channels of 48"]) == [12, 36, 0]
    assert at.button(key="up-0").disabled, "layer 4 is dropped"
    at.button(key="down-0").click().run()
    at.button(key="down-0").click().run()
    assert chosen(at, "windows") == "0-1" and at.button(key="down-0").disabled
    at.button(key="drop-0").click().run()
    assert (chosen(at, "windows"), chosen(at, "drop")) == ("", "0,1,4")
    assert not at.exception and not at.error and not at.button(key="go-to-run").disabled
    assert any("Exact" in each.value for each in at.markdown)


def test_dropping_alone_needs_no_analysis(visit: Visit) -> None:
    at = visit("plan", tokens="512", drop="3")
    assert not at.exception and not at.error
    assert any("Removed whole: layer 3." in each.value for each in at.markdown)
    assert "<b>5</b><span>of 6</span>" in shown(at)


def test_a_ready_made_plan_keeps_no_dropped_layer(visit: Visit) -> None:
    for preset in ("30%", "One pair"):
        at = visit("plan", windows="1-2", drop="4")
        at.button(key=f"preset-{preset}").click().run()
        assert not at.error and "drop" not in at.query_params


def test_own_ratios_come_from_a_slider(visit: Visit) -> None:
    at = visit("plan", windows="1-2")
    at.toggle(key="own-ratios").set_value(True).run()
    at.slider(key="cut-0").set_value(75).run()
    assert list(at.dataframe[0].value["Feed-forward (FFN) channels of 48"]) == [36, 12]


def test_undo_and_redo(visit: Visit) -> None:
    at = visit("plan", target="4")
    assert at.button(key="undo").disabled, "nothing lies before what the link said"
    at.button(key="preset-30%").click().run()
    assert at.slider(key="share").value == 30
    at.button(key="undo").click().run()
    assert at.slider(key="target").value == 4
    at.button(key="redo").click().run()
    assert at.slider(key="share").value == 30


@pytest.mark.parametrize(("widget", "value"), [("first-1", 4), ("cut-1", 30), ("own-ratios", False)])
def test_what_a_browser_sends_of_a_plan_that_was_changed_since_does_no_harm(
    visit: Visit, widget: str, value: int
) -> None:
    at = visit("plan", windows="1-2,3-4", ratios="0.25-0.75,0.5-0.5")
    last = at.session_state["_draft"] = Draft(windows=[(1, 2)])
    at.get_by_key(widget).set_value(value).run()
    assert not at.exception and not at.error
    assert at.session_state["_draft"] == last


def test_ratios_and_cuts_are_two_ways_to_say_the_same() -> None:
    assert edits.cuts((0.2, 0.3, 0.5)) == [20, 50]
    assert edits.from_cuts([50, 20]) == (0.2, 0.3, 0.5)


def test_a_window_far_outside_of_the_model_is_shown_and_mended(visit: Visit) -> None:
    at = visit("plan", windows="0-900000000")
    assert not at.exception and any("does not fit a model" in each.value for each in at.error)
    first, last = at.number_input(key="first-0"), at.number_input(key="last-0")
    assert (first.min, first.max, last.value, last.max) == (0, 5, 900_000_000, 900_000_000)
    assert at.toggle(key="own-ratios").disabled
    at = last.set_value(1).run()
    assert not at.exception and not at.error and chosen(at, "windows") == "0-1"
    assert at.number_input(key="last-0").max == 5


def test_windows_that_reach_anywhere_are_counted_within_the_model() -> None:
    facts = describe("smollm2-135m")
    far = 10**18  # a list of so many layers would not fit any memory
    assert edits.next_window(Draft(windows=[(0, far)]), facts) is None
    assert edits.next_window(Draft(windows=[(-far, -3), (29, far), (20, 3)], dropped=(far,)), facts) == (15, 16)
    costs = [
        WindowCost(first, last, 0.1, cost, 0.2, 0.2, first, (), 1.0) for first, last, cost in ((3, 4, 0.2), (7, 8, 0.1))
    ]
    assert edits.next_window(Draft(windows=[(5, 7)]), facts, costs) == (3, 4), "the cheapest that is free"
    assert edits.next_window(Draft(windows=[(4, 7)]), facts, costs) == (15, 16)
    assert kept_units.groups_of({0: far}, 4) == [[0, 1, 2, 3]]
    assert kept_units.groups_of({2: 0}, 4) == [[0], [1], [2], [3]]


def test_windows_of_a_method_that_fits_them_stay_its_own(visit: Visit, lab: Lab) -> None:
    at = visit("plan", method="come-joint", windows="1-2")
    assert not at.exception and not at.error
    assert not [toggle for toggle in at.toggle if toggle.key == "own-ratios"]  # they are an outcome
    assert "solved for" in " ".join(each.value for each in at.markdown)
    at.get_by_key("layer-tiles").set_value([4]).run()
    at.button(key="tiles-drop").click().run()
    assert (chosen(at, "method"), chosen(at, "windows"), chosen(at, "drop")) == ("come-joint", "1-2", "4")
    at.selectbox(key="method-choice").set_value("come").run()  # which takes windows, too
    assert (chosen(at, "method"), chosen(at, "windows"), chosen(at, "drop")) == ("", "1-2", "4")
    at.selectbox(key="method-choice").set_value("shortgpt").run()
    assert (chosen(at, "target"), chosen(at, "windows")) == ("4", "")
    at = visit("plan", method="come-joint", windows="1-2", ratios="0.3-0.7")
    assert any("ratios=0.3-0.7" in each.value for each in at.warning)


def test_tiles_stay_where_they_are_whatever_the_plan_is() -> None:
    """The tiles of a window touch each other, and no rule reaches behind a row's end."""
    rows = f"repeat({tiles.ROW}, minmax(0, {tiles.WIDTH}))"
    for windows in ([], [(8, 9), (12, 14)], [(0, 19)]):
        style = tiles._style(Draft(windows=windows), 30)
        assert rows in style and "margin-right" not in style
        joined = [n for first, last in windows for n in range(first + 1, last + 1) if n % tiles.ROW]
        assert [n for n in range(30) if f"{tiles._tile(n)} {{ margin-left: -{tiles.GAP}; }}" in style] == joined
        assert style.count("margin-left") == len(joined)
