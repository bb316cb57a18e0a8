"""What the URL says is what was chosen, and undo goes back."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from app.plan import edits
from app.state import request
from app.state.choice import Choice, Draft, comparable, plan_fields
from app.state.link import from_params, to_params
from come.pruning.allocate import check_ratio

CHOICES = [Choice(), Choice("/a/b c.gguf", "/t.txt", 8192, 64, 7, "always"), Choice(bos="never")]
PLANS = [
    Draft(),
    Draft(target_layers=24),
    Draft(method="come"),
    Draft(options={"lookahead": 0.5}),
    Draft(sparsity=0.25, method="shortgpt"),
    Draft(windows=[]),
    Draft(windows=[], dropped=(0, 12)),
    Draft(windows=[(4, 5)], dropped=(9,)),
    Draft(windows=[(4, 5), (9, 11)], ratios=[(0.25, 0.75), (0.5, 0.125, 0.375)]),
    Draft(options={"span": 3, "floor": 0.1, "no_repeat": False, "sbi_tokens": "last"}),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize(
    "choice", [Choice(), Choice("/a/b c.gguf", "/t.txt", 8192, 64, 7, "always"), Choice(bos="never")]
)
def test_the_url_brings_back_choice_and_plan(choice: Choice, plan: Draft) -> None:
    assert from_params(to_params(choice, plan)) == (choice, plan, [])


def test_a_link_from_before_there_was_a_choice_of_bos_means_none() -> None:
    old = {"model": "smollm2-135m", "text": "python-docs", "tokens": "4096", "target": "24"}
    assert from_params(old)[0] == Choice(bos="never")
    assert from_params({"target": "24"})[0].bos == "never"
    assert from_params(old | {"bos": "auto"})[0].bos == to_params(Choice(), Draft())["bos"] == "auto"
    choice, _, misread = from_params(old | {"bos": "perhaps"})
    assert choice.bos == "auto" and misread == ["bos=perhaps"]


def test_a_document_from_before_there_was_a_choice_of_bos_means_none() -> None:
    document = request.to_json(request.config(Choice(bos="always"), Draft(target_layers=24)))
    assert request.from_json(document)[0].bos == "always"
    old = json.loads(document)
    del old["bos"]
    assert request.from_json(json.dumps(old))[0].bos == "never"


def test_shares_rounded_in_the_url_sum_to_one() -> None:
    _, plan, _ = from_params(to_params(Choice(), Draft(windows=[(1, 3)], ratios=[(1 / 3, 1 / 3, 1 / 3)])))
    assert plan.ratios is not None
    assert sum(plan.ratios[0]) == pytest.approx(1, abs=1e-12)


@st.composite
def drafts(draw: st.DrawFn) -> Draft:
    """Plans as the page makes them: ratios by sliders, by numbers, equal, and as the measurement gives them."""
    options = draw(st.fixed_dictionaries({}, optional={"exponent": st.floats(0, 1e6), "floor": st.floats(0, 1)}))
    aim = draw(st.sampled_from(["layers", "share", "hand"]))
    if aim == "layers":
        return Draft(target_layers=draw(st.integers(1, 100)), options=options)
    if aim == "share":
        return Draft(sparsity=draw(st.floats(0, 1)), options=options)
    sizes = draw(st.lists(st.integers(2, 12), max_size=4))
    windows = [(20 * place, 20 * place + size - 1) for place, size in enumerate(sizes)]
    if not draw(st.booleans()):
        return Draft(windows=windows, dropped=tuple(sorted(draw(st.sets(st.integers(90, 99))))), options=options)
    ratios = []
    for size in sizes:
        cut = edits.from_cuts(draw(st.lists(st.integers(0, 100), min_size=size - 1, max_size=size - 1)))
        parts = draw(st.lists(st.floats(0.001, 1), min_size=size, max_size=size))
        ratios.append(draw(st.sampled_from([cut, edits.equal(size), tuple(part / sum(parts) for part in parts)])))
    return Draft(windows=windows, ratios=ratios, options=options)


@given(drafts())
def test_a_draft_survives_its_own_link(plan: Draft) -> None:
    assert from_params(to_params(Choice(), plan)) == (Choice(), plan, [])
    read = from_params(to_params(Choice(), plan))[1]
    assert plan_fields(read) == plan_fields(plan)
    for (first, last), ratio in zip(plan.windows or [], plan.ratios or [], strict=False):
        check_ratio(ratio, last - first + 1)
        assert sum(ratio) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("cut", range(1, 100))
def test_every_cut_of_the_slider_finds_its_run_again(cut: int) -> None:
    ratio = edits.from_cuts([cut])
    plan = Draft(windows=[(4, 5)], ratios=[ratio])
    reloaded = from_params(to_params(Choice(), plan))[1]
    assert plan_fields(reloaded)["options"] == {"windows": [[4, 5]], "ratios": [list(ratio)]}


def test_runs_with_more_digits_are_compared_in_those_of_a_draft() -> None:
    asked = {"windows": [(4, 5)], "ratios": [(0.57, 1 - 0.57), None]}
    assert comparable(asked) == {"windows": [[4, 5]], "ratios": [[0.57, 0.43], None]}


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

        from app.state import session
        from app.state.choice import Draft

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

    at = AppTest.from_function(script, default_timeout=240).run()
    assert not at.exception
    assert [text.value for text in at.text] == ["[20, None, 20, True]", "[True, False]"]


def test_a_window_by_hand_replaces_what_it_overlaps() -> None:
    def script() -> None:
        import streamlit as st

        from app.state import session, visit
        from app.state.choice import Draft

        session.set_draft(Draft(windows=[], dropped=(0, 6, 10)))
        for window in ((4, 5), (9, 11), (5, 7), (1, 2)):
            visit.add_window(*window)
        st.text(session.draft().windows)
        visit.remove_window(9, 11)
        st.text(session.draft().windows)
        st.text(session.draft().dropped)
        session.set_draft(Draft("come-p", options={"granularity": 5}))  # another method's options do not go along
        visit.add_window(4, 5)
        st.text(f"{session.draft().method} {session.draft().options}")
        # CoMe-Joint takes windows itself; what chooses them is of no use then.
        session.set_draft(Draft("come-joint", options={"lookahead": 0.5, "span": 3}))
        visit.add_window(4, 5)
        st.text(f"{session.draft().method} {session.draft().options}")

    at = AppTest.from_function(script, default_timeout=240).run()
    windows = ["[(1, 2), (5, 7), (9, 11)]", "[(1, 2), (5, 7)]", "(0,)"]
    assert [text.value for text in at.text] == [*windows, "come {}", "come-joint {'lookahead': 0.5}"]
