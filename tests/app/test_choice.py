"""What the URL says is what was chosen, and undo goes back."""

import pytest
from streamlit.testing.v1 import AppTest

from app.choice import Choice, Draft, from_params, to_params

PLANS = [
    Draft(),
    Draft(target_layers=24),
    Draft(sparsity=0.25, method="shortgpt"),
    Draft(windows=[]),
    Draft(windows=[], dropped=(0, 12)),
    Draft(windows=[(4, 5)], dropped=(9,)),
    Draft(windows=[(4, 5), (9, 11)], ratios=[(0.25, 0.75), (0.5, 0.125, 0.375)]),
    Draft(options={"span": 3, "floor": 0.1, "no_repeat": False, "sbi_tokens": "last"}),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("choice", [Choice(), Choice("/a/b c.gguf", "/t.txt", 8192, 64, 7)])
def test_the_url_brings_back_choice_and_plan(choice: Choice, plan: Draft) -> None:
    assert from_params(to_params(choice, plan)) == (choice, plan, [])


def test_shares_rounded_in_the_url_sum_to_one() -> None:
    _, plan, _ = from_params(to_params(Choice(), Draft(windows=[(1, 3)], ratios=[(1 / 3, 1 / 3, 1 / 3)])))
    assert plan.ratios is not None
    assert sum(plan.ratios[0]) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize(
    "query",
    [
        {"tokens": "many"},
        {"tokens": "-1"},
        {"target": "x"},
        {"remove": "half"},
        {"windows": "4"},
        {"windows": "a-b"},
        {"ratios": "x-y", "windows": "4-5"},
        {"options": "span"},
        {"drop": "9-12"},
        {"drop": "-1"},
    ],
)
def test_what_cannot_be_read_is_named_and_left_out(query: dict[str, str]) -> None:
    _, plan, misread = from_params(query)
    assert len(misread) == 1
    assert plan in (Draft(), Draft(windows=[(4, 5)]))


def test_dropped_layers_alone_make_a_plan_by_hand() -> None:
    assert from_params({"drop": "12,3,3", "target": "20"})[1] == Draft(windows=[], dropped=(3, 12))
    assert not Draft(windows=[], dropped=(3,)).is_empty and Draft(windows=[]).is_empty and not Draft().is_empty


def test_undo_and_redo() -> None:
    def script() -> None:
        import streamlit as st

        from app import session
        from app.choice import Draft

        if not session.value("begun"):
            session.put("begun", True)
            session.set_draft(Draft(target_layers=20))
            session.set_draft(Draft(target_layers=10))
            session.undo()
            first = session.draft().target_layers
            session.undo()
            second = session.draft().target_layers
            session.redo()
            st.text([first, second, session.draft().target_layers, session.can_redo()])
            session.set_draft(Draft(target_layers=5))
            st.text([session.can_undo(), session.can_redo()])

    at = AppTest.from_function(script).run()
    assert not at.exception
    assert [text.value for text in at.text] == ["[20, None, 20, True]", "[True, False]"]


def test_a_window_by_hand_replaces_what_it_overlaps() -> None:
    def script() -> None:
        import streamlit as st

        from app import session, visit
        from app.choice import Draft

        session.set_draft(Draft(windows=[], dropped=(0, 6, 10)))
        for window in ((4, 5), (9, 11), (5, 7), (1, 2)):
            visit.add_window(*window)
        st.text(session.draft().windows)
        session.remove_window(9, 11)
        st.text(session.draft().windows)
        st.text(session.draft().dropped)

    at = AppTest.from_function(script).run()
    assert [text.value for text in at.text] == ["[(1, 2), (5, 7), (9, 11)]", "[(1, 2), (5, 7)]", "(0,)"]
