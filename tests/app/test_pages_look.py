"""The model, channels and layers pages, each opened first, and what a visitor does there."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app import example_runs
from come import settings
from come.errors import ComeError
from come.serving import uploads
from come.text import TextSource, known_texts, read
from tests.app.conftest import Lab, the_app
from tests.app.layers.test_page_layers import said

Visit = Callable[..., AppTest]
LOOKS = ("model", "channels", "layers")


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def go(at: AppTest, page: str) -> AppTest:
    return at.switch_page(f"../pages/{page}.py").run()


def in_strip(at: AppTest) -> str:
    return next(html.proto.body for html in at.get("html") if "come-strip" in html.proto.body)


@pytest.mark.parametrize("page", LOOKS)
def test_a_page_opens_first(visit: Visit, page: str) -> None:
    at = fine(visit(page))
    assert at.title


@pytest.mark.parametrize("page", LOOKS)
def test_a_page_opens_without_an_analysis(visit: Visit, lab: Lab, page: str) -> None:
    for run in come.runs.list_runs():
        come.runs.delete(run)
    at = fine(visit(page))
    assert [button for button in at.button if "analyse" in button.label]


def test_pages_in_any_order(visit: Visit) -> None:
    at = fine(visit("layers"))
    for page in ("channels", "model", "layers", "model", "channels"):
        at = fine(go(at, page))


def test_the_start_leads_to_the_first_page(visit: Visit) -> None:
    at = the_app().run()
    assert not at.exception
    assert at.title[0].value == "CoMe Lab"


@pytest.mark.parametrize("page", LOOKS)
@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", ""])
def test_a_model_that_is_not_there_is_one_sentence(visit: Visit, page: str, name: str) -> None:
    at = visit(page, model=name)
    assert not at.exception
    if name:
        assert len(at.error) == 1
        assert name in at.error[0].value
        assert "Traceback" not in at.error[0].value


def test_choosing_a_model_goes_to_the_url_and_stays(visit: Visit, lab: Lab) -> None:
    at = visit("model")
    at.selectbox(key="model-source").set_value("smollm2-135m").run()
    assert at.query_params["model"] in ("smollm2-135m", ["smollm2-135m"])
    at = go(at, "layers")
    assert at.query_params["model"] in ("smollm2-135m", ["smollm2-135m"])


@pytest.mark.parametrize("text", [text for text in known_texts() if text.where != "hub"], ids=lambda text: text.name)
def test_a_bundled_text_is_offered_with_a_sentence(visit: Visit, text: TextSource) -> None:
    at = visit("model")
    assert text.title in at.selectbox(key="text-source").options
    at = fine(at.selectbox(key="text-source").set_value(text.name).run())
    assert at.query_params["text"] in (text.name, [text.name])
    assert text.note in [caption.value for caption in at.caption]


def test_facts_of_the_model_are_told(visit: Visit) -> None:
    at = visit("model")
    told = " ".join(html.proto.body for html in at.get("html") if "come-facts" in html.proto.body)
    for name in ("Parameters", "Layers", "Attention heads", "(KV) heads", "License", "bfloat16"):
        assert name in told


@pytest.mark.parametrize("part", ["ffn", "attention"])
@pytest.mark.parametrize("view", ["percentile", "raw", "sorted"])
def test_every_view_of_the_channels(visit: Visit, part: str, view: str) -> None:
    for scale in ("log", "linear"):
        fine(visit("channels", part=part, view=view, scale=scale))


def test_a_layer_is_chosen_by_widget_and_by_link(visit: Visit) -> None:
    at = fine(visit("channels", layer="0"))
    assert at.selectbox(key="layer").value == 0
    at = fine(at.selectbox(key="layer").set_value(4).run())
    assert at.query_params["layer"] in ("4", ["4"])
    assert "Layer 4" in [header.value for header in at.header]
    at = fine(go(go(at, "model"), "channels"))
    assert at.selectbox(key="layer").value == 4


@pytest.mark.parametrize("link", [{"layer": "999"}, {"layer": "x"}, {"zoom": "9-2"}, {"zoom": "a-b"}, {"view": "?"}])
def test_a_link_that_makes_no_sense_shows_the_default(visit: Visit, link: dict[str, str]) -> None:
    fine(visit("channels", **link))


def test_a_plan_in_the_link_that_cannot_be_read_is_left_out(visit: Visit) -> None:
    at = visit("layers", windows="four-five")
    assert not at.exception
    assert "windows=four-five" in at.warning[0].value


def test_channels_narrowed_to_one_bin(visit: Visit) -> None:
    at = fine(visit("channels", view="raw", zoom="3-6"))
    assert at.slider(key="zoom-shown").value == (3, 6)


def test_another_part_is_shown_whole_after_a_narrowed_one(visit: Visit) -> None:
    at = fine(visit("channels", zoom="3-6"))
    at = fine(at.segmented_control(key="part").set_value("attention").run())
    zoom = at.slider(key="zoom-shown")
    assert zoom.value == (zoom.min, zoom.max) and "zoom" not in at.query_params
    at = fine(at.segmented_control(key="part").set_value("ffn").run())
    assert at.slider(key="zoom-shown").value == (1, at.slider(key="zoom-shown").max)


def test_the_map_says_what_hatching_is(visit: Visit) -> None:
    told = fine(visit("channels")).caption[0].value
    share = r"\(\d+ to \d+% of layers 3–5\)"
    assert re.search(f"Hatched: what the suggested plan would drop {share}, an estimate by sensitivity\\.", told)


def test_of_attention_the_map_and_the_card_say_the_rule(visit: Visit) -> None:
    rule = "A window keeps its first layer's attention, however sensitive the others."
    at = fine(visit("channels", part="attention", layer="5"))
    assert "would drop (100% of layers 4–5). " + rule in at.caption[0].value
    assert "would be **dropped**" in said(at) and said(at).count(rule) == 2
    assert "An estimate" not in said(at)
    assert rule not in said(fine(visit("channels", part="attention", layer="5", method="come")))


def test_ranks_are_counted_from_one_and_channels_from_zero(visit: Visit) -> None:
    """Links hold places from 0 in every view, as they always did."""
    at = fine(visit("channels", zoom="3-6"))
    ranks = at.slider(key="zoom-shown")
    assert ranks.label == "Ranks shown" and (ranks.min, ranks.max) == (1, 48) and ranks.value == (4, 7)
    at = fine(ranks.set_value((2, 9)).run())
    assert at.query_params["zoom"] in ("1-8", ["1-8"])
    at = fine(visit("channels", zoom="3-6", view="raw"))
    shown = at.slider(key="zoom-shown")
    assert shown.label == "Channels shown" and (shown.min, shown.max) == (0, 47) and shown.value == (3, 6)


def test_heads_are_shown_with_the_part_that_has_them(visit: Visit) -> None:
    headers = [header.value for header in fine(visit("channels", part="attention")).header]
    assert "Attention heads" in headers
    assert "Attention heads" not in [header.value for header in fine(visit("channels")).header]


def test_a_window_goes_to_the_plan_and_out_again(visit: Visit) -> None:
    at = fine(visit("layers", first="1", last="3", windows="4-5"))
    add = next(button for button in at.button if button.label == "Add to plan")
    at = fine(add.click().run())
    assert at.query_params["windows"] in ("1-3,4-5", ["1-3,4-5"])
    assert "plan by hand" in in_strip(at)
    remove = next(button for button in at.button if button.label == "Remove")
    at = fine(remove.click().run())
    assert at.query_params["windows"] in ("4-5", ["4-5"])


@pytest.mark.parametrize("method", ["come", "shortgpt"])
def test_a_window_is_added_to_the_automatic_plan_that_is_shown(visit: Visit, method: str) -> None:
    """What the strip shows before stays in the plan, but for what the window takes."""
    before = in_strip(fine(visit("plan", method=method, target="5")))
    at = fine(visit("layers", method=method, target="5", first="0", last="1"))
    assert in_strip(at) == before
    shown = {button.label for button in at.button} & {"Add to plan", "Remove"}
    at = fine(next(button for button in at.button if button.label in shown).click().run())
    assert "plan by hand" in in_strip(at)
    expected = {"Remove": "6 layers", "Add to plan": "4 layers"}
    assert shown and f"aria-label='{expected[shown.pop()]}'" in in_strip(at), in_strip(at)


@pytest.mark.parametrize(("first", "last"), [(3, 3), (4, 2)])
def test_a_window_the_wrong_way_round_is_one_sentence(visit: Visit, first: int, last: int) -> None:
    at = visit("layers", first=str(first), last=str(last))
    assert not at.exception
    assert any("must come after the first" in warning.value for warning in at.warning)


@pytest.mark.parametrize("kind", ["cosine", "angular", "cka"])
def test_similarity_says_over_how_many_tokens(visit: Visit, kind: str) -> None:
    at = fine(visit("layers", similarity=kind))
    assert any("1,024 tokens. Each step of the colours" in each.value for each in at.markdown)


@pytest.mark.parametrize("page", LOOKS)
def test_the_example_answers_where_nothing_was_measured(
    visit: Visit, lab: Lab, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(example_runs, "FOLDER", lab.runs.resolve())
    monkeypatch.setenv("COME_RUNS", str(lab.runs.parent / "none"))
    at = fine(visit(page, tokens="2048"))
    shown = [caption.value for caption in at.caption] + [markdown.value for markdown in at.markdown]
    shown += [link.label for link in at.get("page_link")]
    assert any("example" in text for text in shown)


@pytest.mark.parametrize("windows", ["0-99", "3-1", "2-4,4-5"])
@pytest.mark.parametrize("page", LOOKS)
def test_a_plan_that_cannot_be_is_said_in_the_strip(visit: Visit, page: str, windows: str) -> None:
    at = fine(visit(page, windows=windows))
    assert "quiet" in in_strip(at)
    assert "come-tiles" not in in_strip(at)


def test_a_click_tells_its_layer_and_channels() -> None:
    """The customdata of an array of numbers comes from the browser as an object."""

    def ask() -> None:
        import streamlit as st

        from app.state import session

        st.text(session.clicked("chart")[0]["customdata"])
        st.text(session.clicked("no chart"))

    at = AppTest.from_function(ask, default_timeout=240)
    at.session_state["chart"] = {"selection": {"points": [{"customdata": {"10": 3, "0": 1, "2": 2}}]}}
    assert [text.value for text in at.run().text] == ["[1, 2, 3]", "[]"]


def test_an_uploaded_text_is_kept_by_its_content(lab: Lab) -> None:
    first = Path(uploads.keep_text("mine.txt", b"One text of mine."))
    assert str(first) == uploads.keep_text("mine.txt", b"One text of mine.")
    assert first.read_bytes() == b"One text of mine."
    assert first.name == "mine.txt"
    assert Path(uploads.keep_text("../my: text\0.TXT", b"One text of mine.")).name == "my text.txt"


def test_an_uploaded_table_is_kept_with_the_column_to_read(lab: Lab) -> None:
    table = b"id,body\n1,one text\n2,another\n"
    with pytest.raises(ComeError, match='has the fields "id", "body"'):
        uploads.keep_text("notes.csv", table)
    assert not list((settings.home() / "texts").glob("*"))
    text = uploads.keep_text("notes.csv", table, "body")
    assert text.endswith("/notes.csv:body") and read(text) == "one text\n\nanother"


@pytest.mark.parametrize("content", [b"", b"\x00\xff\xfe\x00binary", b"   "])
def test_an_upload_that_is_no_text_leaves_nothing_behind(lab: Lab, content: bytes) -> None:
    with pytest.raises(ComeError):
        uploads.keep_text("mine.txt", content)
    assert not list((settings.home() / "texts").glob("*"))


def test_an_upload_of_chats_says_how_it_is_read_and_keeps_its_name(visit: Visit) -> None:
    at = fine(visit("model"))
    rows = [
        {"messages": [{"role": "user", "content": f"{n}?"}, {"role": "assistant", "content": "!"}]} for n in range(9)
    ]
    written = "\n".join(map(json.dumps, rows)).encode()
    fine(at.file_uploader(key="text-upload").upload("my chats.jsonl", written, "application/jsonl").run())
    assert at.selectbox(key="text-source").value.endswith("/my chats.jsonl")
    assert "Read as messages, through the model's chat template, where it has one." in [
        each.value for each in at.caption
    ]


def test_an_upload_of_unknown_fields_asks_for_the_one_to_read(visit: Visit) -> None:
    at = fine(visit("model"))
    before = at.selectbox(key="text-source").value
    at.file_uploader(key="text-upload").upload("notes.csv", b"id,body\n1,one text\n2,another\n", "text/csv").run()
    assert 'has the fields "id", "body"' in at.error[0].value and at.selectbox(key="text-source").value == before
    fine(at.text_input(key="text-column").set_value("body").run())
    assert at.selectbox(key="text-source").value.endswith("/notes.csv:body")
    assert 'Read as column "body".' in [each.value for each in at.caption]


def test_a_text_that_cannot_be_read_is_told_where_it_is_chosen(visit: Visit, tmp_path: Path) -> None:
    (tmp_path / "odd.jsonl").write_text('{"question": "?"}')
    at = visit("model", text=str(tmp_path / "odd.jsonl"))
    assert not at.exception and 'has the fields "question"' in at.warning[0].value


def test_the_strip_says_in_few_words_how_many_runs_are_active(visit: Visit, lab: Lab) -> None:
    for count, told in ((1, "1 run active"), (2, "2 runs active")):
        lab.create(target_layers=6 - count)
        assert f"plan by hand, not run yet · {told}" in in_strip(fine(visit("model", windows="1-3")))
