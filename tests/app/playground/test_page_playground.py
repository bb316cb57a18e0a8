"""The playground page: the recording at once, one's own models, streaming, stop, the next-token view, links."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.playground import asked_before
from app.playground.generation import Generation
from come.errors import ComeError
from come.serving.playground.speech import Along, End, Parting, Sampling, Start, Word
from come.serving.resident import client
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def fine(at: AppTest) -> AppTest:
    assert not at.exception
    assert not [error.value for error in at.error]
    return at


def html(at: AppTest) -> str:
    return " ".join(block.proto.body for block in at.get("html"))


def settle(at: AppTest, key: str) -> AppTest:
    """Wait for the background, then draw anew."""
    deadline = time.monotonic() + 30
    while at.session_state[key].active and time.monotonic() < deadline:
        time.sleep(0.02)
    return fine(at.run())


class Engine:
    """Stands for the resident process."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str], Sampling, bool | None]] = []
        self.texts: list[tuple[str, bool, int | None]] = []
        self.hold = threading.Event()
        self.hold.set()
        self.stop_at_once = False
        self.answers: dict[str, str] = {}  # of models that say something of their own

    def generate(
        self, subject: object, prompt: str, plans: Mapping[str, str], sampling: Sampling, **given: object
    ) -> Iterator[object]:
        self.asked.append((prompt, list(plans), sampling, given["chat"]))  # type: ignore[arg-type]
        if prompt == "fail":
            raise ComeError("The model is gone.", "Choose another.")
        yield Start(prompt, 4, False)
        for name in ("original", *plans):
            text = "" if self.stop_at_once else self.answers.get(name, "yes")
            yield Word(name, 0, 5, text, 0.4, ((5, text, 0.4),), float("nan"))
        for name in plans:
            yield Parting(name, 0, 5, 6)
        while not self.hold.is_set():
            time.sleep(0.01)
            yield Start(prompt, 4, False)
        for name in ("original", *plans):
            yield End(name, "stop" if self.stop_at_once else "length", 1, "yes", 0.1, 5.0)

    def along(self, subject: object, text: str, plans: Mapping[str, str], **given: object) -> Along:
        self.texts.append((text, bool(given["chat"]), given["at"]))  # type: ignore[arg-type]
        assert given["since"], "one question finds the token and tells of it"
        at = 1 if given["at"] is None else int(str(given["at"]))
        top = ((5, " yes", 0.4), (6, " no", 0.2))
        return Along(
            tokens=(1, 2, 3),
            pieces=("a", "b", "c"),
            chances={},
            kl=dict.fromkeys(plans, (0.1, 2.0, 0.3)),
            at=at,
            top={"original": top, **dict.fromkeys(plans, (top[0], (7, " so", 0.2)))},
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    stand_in = Engine()
    monkeypatch.setattr(client, "generate", stand_in.generate)
    monkeypatch.setattr(client, "along", stand_in.along)
    return stand_in


def test_the_example_has_spoken_before_anyone_asks(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", model="smollm2-135m"))
    assert "recorded with the example" in html(at)
    assert "The capital of France" in at.text_area(key="prompt").value or "capital" in at.text_area(key="prompt").value
    assert html(at).count("<section") == 4
    assert at.toggle(key="chat").value is True
    assert not engine.asked and not engine.texts
    assert at.slider(key="after-token").value == at.session_state["_look"].found.at
    # The sentence, followed through each of them: drawn from what was measured.
    found = at.session_state["_look"].found
    followed = at.segmented_control(key="followed")
    assert max(kl[found.at] for kl in found.kl.values()) == max(map(max, found.kl.values())), "which the title names"
    assert list(found.angles) == list(found.spans) == list(found.kl) and followed.value in found.angles
    assert any(f"{max(found.angles[followed.value][-1]):.1f}°" in each.value for each in at.markdown)


def test_recorded_answers_of_others_than_those_chosen_are_an_example(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", model="smollm2-135m"))
    assert [each.label for each in at.expander] == ["Next token", "Follow the sentence"]
    box = at.multiselect(key="with")
    at = fine(box.set_value(box.value[:1]).run())
    assert at.expander[0].label.startswith("Example")


def test_a_model_without_runs_borrows_the_example(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", model="some/other"))
    assert "no finished run of other" in at.info[0].value
    assert html(at).count("<section") == 4


def test_ones_own_models_speak(visit: Visit, lab: Lab, engine: Engine) -> None:
    at = fine(visit("playground"))
    assert "Not asked yet" in " ".join(each.value for each in at.markdown) and html(at).count("<section") == 4
    assert any("Shipped example: SmolLM2 135M Instruct" in each.value for each in at.caption)
    assert "Paris" in html(at) and not engine.asked, "till then, and by its name"
    *_, last = at.main.children.values()
    assert any("Shipped example" in each.value for each in last.get("caption")), "below what is of the chosen models"
    assert len(at.multiselect(key="with").value) == 2
    assert at.toggle(key="no-chat").disabled
    at.text_area(key="prompt").set_value("Is it <i>so</i>?")  # a click sends what was typed before it along
    at = fine(at.button(key="talk").click().run())
    at = settle(at, "_talk")
    assert not any("Shipped example" in each.value for each in at.caption)
    shown = html(at)
    assert shown.count("<section") == 3
    assert "Is it" not in shown  # the prompt stands above
    at.text_area(key="prompt").set_value("Something else").run()
    assert "“Is it &lt;i&gt;so&lt;/i&gt;?”" in html(at)
    assert shown.count("another word from token 1 on") == 2
    prompt, plans, sampling, chat = engine.asked[0]
    assert (prompt, sampling.temperature, sampling.new_tokens, chat) == ("Is it <i>so</i>?", 0.0, 64, False)
    assert plans == at.multiselect(key="with").value


def test_stop(visit: Visit, engine: Engine) -> None:
    engine.hold.clear()
    at = fine(visit("playground"))
    at = fine(at.button(key="talk").click().run())
    assert not [button for button in at.button if button.key == "talk"]
    at = fine(at.button(key="stop-talk").click().run())
    assert at.session_state["_talk"].status == "stopped"
    assert at.button(key="talk")
    assert "· stopped" in html(at)


def test_what_cannot_be_answered_is_one_sentence(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", prompt="fail"))
    at.button(key="talk").click().run()
    deadline = time.monotonic() + 10
    while at.session_state["_talk"].active and time.monotonic() < deadline:
        time.sleep(0.02)
    at.run()
    assert [error.value for error in at.error] == ["The model is gone. Choose another."]


@pytest.mark.parametrize("prompt", ["", "   "])
def test_an_empty_prompt_is_said_and_not_sent(visit: Visit, engine: Engine, prompt: str) -> None:
    at = fine(visit("playground"))
    at = fine(at.text_area(key="prompt").set_value(prompt).run())
    assert at.button(key="talk").disabled
    assert "The prompt is empty" in at.warning[0].value


def test_a_raw_prompt_that_ends_at_once_is_explained(visit: Visit, engine: Engine) -> None:
    engine.stop_at_once = True
    at = fine(visit("playground"))
    at = settle(at.button(key="talk").click().run(), "_talk")
    assert "ended the text at once" in at.info[0].value


def test_a_chip_fills_the_prompt_and_sampling_is_handed_on(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground"))
    at = fine(at.button(key="example-Counting").click().run())
    assert at.text_area(key="prompt").value.startswith("One, two")
    at.select_slider(key="temperature").set_value(0.7).run()
    at.select_slider(key="new-tokens").set_value(8).run()
    at.number_input(key="draw").set_value(3).run()
    at = settle(at.button(key="talk").click().run(), "_talk")
    sampling = engine.asked[0][2]
    assert (sampling.temperature, sampling.new_tokens, sampling.seed) == (0.7, 8, 3)
    assert "temperature 0.7, top-p 1, seed 3" in html(at)


def test_along_the_prompt_and_the_answer_and_at_another_token(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", prompt="A text"))
    at = settle(at.button(key="compare-along").click().run(), "_look")
    assert engine.texts == [("A text", False, None)], "read once, to find the token and to tell what comes after it"
    assert "departs most after “b”" in html(at)
    assert "Faint: not among the original's 2 likeliest." in html(at)
    assert at.slider(key="after-token").value == 1, "what the title speaks of"
    at = settle(at.slider(key="after-token").set_value(2).run(), "_look")
    assert engine.texts[-1] == ("A text", False, 2)
    assert at.slider(key="after-token").value == 2
    at = settle(at.button(key="talk").click().run(), "_talk")
    at.segmented_control(key="along").set_value("answer").run()
    at = settle(at.button(key="compare-along").click().run(), "_look")
    assert ("A textyes", False, None) in engine.texts


def test_a_sentence_is_followed_at_a_press(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", prompt="A text"))
    at = settle(at.button(key="follow-along").click().run(), "_look")
    assert engine.texts[0] == ("A text", False, None) and "departs most" in html(at)


def test_a_link_restores_models_and_prompt(visit: Visit, lab: Lab, engine: Engine) -> None:
    at = fine(visit("playground"))
    one = at.multiselect(key="with").value[1]
    at = fine(visit("playground", **{"with": f"{one},nonsense", "prompt": "Mine", "temperature": "0.5"}))
    assert at.multiselect(key="with").value == [one]
    assert at.text_area(key="prompt").value == "Mine"
    assert at.select_slider(key="temperature").value == 0.5


def test_a_reload_shows_the_answers_again(visit: Visit, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: OrderedDict[str, Generation] = OrderedDict()
    monkeypatch.setattr(asked_before, "_kept", lambda: kept)  # opening a page empties all caches here
    at = fine(visit("playground", prompt="Mine"))
    assert "asked" not in at.query_params
    at = settle(at.button(key="talk").click().run(), "_talk")
    link = {key: held[-1] if isinstance(held, list) else held for key, held in dict(at.query_params).items()}
    again = fine(visit("playground", **link))
    assert again.session_state["_talk"] is at.session_state["_talk"] and html(again).count("<section") == 3
    assert len(engine.asked) == 1, "remembered"
    kept.clear()  # as after a restart of the server
    again = settle(fine(visit("playground", **link)), "_talk")
    assert html(again).count("<section") == 3 and engine.asked[1] == engine.asked[0]
    kept.clear()
    other = fine(visit("playground", **link | {"prompt": "Another"}))
    assert "Not asked yet" in " ".join(each.value for each in other.markdown) and len(engine.asked) == 2
    assert "asked" not in other.query_params, "it names a question that is not asked here"


def test_a_long_prompt_stays_out_of_the_url_and_comes_back(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground"))
    long = "word " * 100
    at = fine(at.text_area(key="prompt").set_value(long).run())
    assert "prompt" not in at.query_params
    at = fine(at.switch_page("../pages/layers.py").run())
    at = fine(at.switch_page("../pages/playground.py").run())
    assert at.text_area(key="prompt").value == long


@pytest.mark.parametrize(
    "link", [{"with": ","}, {"temperature": "x"}, {"draw": "-1"}, {"along": "?"}, {"chat": "maybe"}]
)
def test_a_link_that_makes_no_sense_shows_the_default(visit: Visit, engine: Engine, link: dict[str, str]) -> None:
    at = fine(visit("playground", **link))
    assert len(at.multiselect(key="with").value) == 2


def test_the_original_alone(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground"))
    at = fine(at.multiselect(key="with").set_value([]).run())
    at = settle(at.button(key="talk").click().run(), "_talk")
    assert html(at).count("<section") == 1
    assert at.button(key="compare-along").disabled


# --- the blind vote ---------------------------------------------------------------------------------


def told(at: AppTest) -> str:
    """All that the page says outside of its fields."""
    words = [each.value for kind in (at.markdown, at.caption, at.info, at.warning) for each in kind]
    buttons = [f"{button.label} {button.key} {button.help}" for button in at.button]
    return " ".join([*words, *buttons])


def asked_blind(at: AppTest) -> AppTest:
    at = fine(at.button(key="ask-blind").click().run())
    deadline = time.monotonic() + 30
    while at.session_state["_blind"].round.generation.active and time.monotonic() < deadline:
        time.sleep(0.02)
    return fine(at.run())


def test_a_blind_vote_names_nobody_before_it(visit: Visit, engine: Engine) -> None:
    engine.answers = {"original": "alpha"}
    at = asked_blind(fine(visit("playground", mode="blind", prompt="Hi")))
    assert html(at).count("<section") == 2 and "alpha" in html(at)
    before = html(at)
    names = at.session_state["_blind"].round.generation.asked.names.values()
    (cards,) = [block.proto.body for block in at.get("html") if block.proto.body.startswith("<div class='come-side'>")]
    for secret in (*names, *engine.asked[0][1], "tokens/s", "another word from", "unsure", "data-tip", "u0"):
        assert secret not in cards, secret
    assert "You preferred" not in told(at) and "Votes of this visit" not in told(at)
    for _ in range(3):
        at.run()
    assert html(at) == before, "the order is drawn once"
    at = fine(at.button(key="vote-a").click().run())
    held = at.session_state["_blind"].round
    assert f"You preferred **{held.name('A')}** (A) to {held.name('B')}" in told(at)
    assert held.name("A") in html(at) and "1 vote: " in told(at)
    assert not [button for button in at.button if button.key == "vote-a"]
    assert at.get("download_button")


def test_a_prompt_is_voted_on_once(visit: Visit, engine: Engine) -> None:
    engine.answers = {"original": "alpha"}
    at = asked_blind(fine(visit("playground", mode="blind", prompt="Hi")))
    at = fine(at.button(key="vote-tie").click().run())
    assert at.button(key="ask-blind").disabled and "You have voted on this prompt" in told(at)
    at = fine(at.text_area(key="prompt").set_value("Another").run())
    at = asked_blind(at)
    at = fine(at.button(key="vote-b").click().run())
    assert "2 votes: " in told(at) and "1 could not tell" in told(at)


def test_answers_that_were_shown_with_names_are_not_voted_on(visit: Visit, engine: Engine) -> None:
    engine.answers = {"original": "alpha"}
    at = fine(visit("playground", prompt="Hi"))
    at = settle(at.button(key="talk").click().run(), "_talk")
    at = fine(at.segmented_control(key="mode").set_value("blind").run())
    assert at.text_area(key="prompt").value != "Hi", "a prompt that is new"
    assert not at.button(key="ask-blind").disabled and "alpha" not in html(at)
    at = fine(at.text_area(key="prompt").set_value("Hi").run())
    assert at.button(key="ask-blind").disabled and "shown with its model's name" in told(at)


def test_nothing_is_shown_before_both_have_answered_and_two_pruned_ones_can_be_asked(
    visit: Visit, engine: Engine
) -> None:
    engine.hold.clear()
    at = fine(visit("playground", mode="blind", prompt="Hi"))
    first, second = [run.id for run in come.runs.list_runs() if run.config.kind == "compress"]
    at = fine(at.selectbox(key="blind-one").set_value(first).run())
    at = fine(at.selectbox(key="blind-other").set_value(second).run())
    at = fine(at.button(key="ask-blind").click().run())
    assert "<section" not in html(at) and "Their answers appear together" in told(at)
    at = fine(at.button(key="stop-blind").click().run())
    assert "Stopped before both had answered" in told(at)
    assert len(engine.asked[0][1]) == 2 and "original" not in at.session_state["_blind"].round.behind


def test_the_same_words_cannot_be_preferred(visit: Visit, engine: Engine) -> None:
    at = asked_blind(fine(visit("playground", mode="blind", prompt="Hi")))
    assert at.button(key="vote-a").disabled and at.button(key="vote-b").disabled
    assert not at.button(key="vote-tie").disabled and "word for word" in told(at)
