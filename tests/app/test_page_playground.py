"""The playground page: the recording at once, one's own models, streaming, stop, the next-token view, links."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping

import pytest
from streamlit.testing.v1 import AppTest

from come.errors import ComeError
from come.live import Along, End, Parting, Sampling, Start, Word, client
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

    def generate(
        self, subject: object, prompt: str, plans: Mapping[str, str], sampling: Sampling, **given: object
    ) -> Iterator[object]:
        self.asked.append((prompt, list(plans), sampling, given["chat"]))  # type: ignore[arg-type]
        if prompt == "fail":
            raise ComeError("The model is gone.", "Choose another.")
        yield Start(prompt, 4, False)
        for name in ("original", *plans):
            text = "" if self.stop_at_once else "yes"
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
        at = 2 if given["at"] is None else int(str(given["at"]))
        top = ((5, " yes", 0.4), (6, " no", 0.2))
        return Along(
            tokens=(1, 2, 3),
            pieces=("a", "b", "c"),
            chances={},
            kl=dict.fromkeys(plans, (0.1, 2.0, 0.3)),
            at=at,
            top=dict.fromkeys(["original", *plans], top),
        )


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    stand_in = Engine()
    monkeypatch.setattr(client, "generate", stand_in.generate)
    monkeypatch.setattr(client, "along", stand_in.along)
    return stand_in


def test_the_example_has_spoken_before_anyone_asks(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", model="smollm2-135m"))
    assert "recorded when the example was made" in html(at)
    assert "The capital of France" in at.text_area(key="prompt").value or "capital" in at.text_area(key="prompt").value
    assert html(at).count("<section") == 4
    assert at.toggle(key="chat").value is True
    assert not engine.asked and not engine.texts
    assert at.slider(key="after-token").value == at.session_state["_look"].found.at


def test_a_model_without_runs_borrows_the_example(visit: Visit, engine: Engine) -> None:
    at = fine(visit("playground", model="some/other"))
    assert "no finished run of other" in at.info[0].value
    assert html(at).count("<section") == 4


def test_ones_own_models_speak(visit: Visit, lab: Lab, engine: Engine) -> None:
    at = fine(visit("playground"))
    assert "Nothing said yet" in " ".join(each.value for each in at.markdown)
    assert len(at.multiselect(key="with").value) == 2
    assert at.toggle(key="no-chat").disabled
    at.text_area(key="prompt").set_value("Is it <i>so</i>?").run()
    at = fine(at.button(key="talk").click().run())
    at = settle(at, "_talk")
    shown = html(at)
    assert shown.count("<section") == 3
    assert "“Is it &lt;i&gt;so&lt;/i&gt;?”" in shown
    assert shown.count("parts at token 1") == 2
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
    assert engine.texts == [("A text", False, None)]
    assert "departs most after “b”" in html(at)
    assert at.slider(key="after-token").value == 2
    at = settle(at.slider(key="after-token").set_value(1).run(), "_look")
    assert engine.texts[-1] == ("A text", False, 1)
    assert at.slider(key="after-token").value == 1
    at = settle(at.button(key="talk").click().run(), "_talk")
    at.segmented_control(key="along").set_value("answer").run()
    at = settle(at.button(key="compare-along").click().run(), "_look")
    assert engine.texts[-1] == ("A textyes", False, None)


def test_a_link_restores_models_and_prompt(visit: Visit, lab: Lab, engine: Engine) -> None:
    at = fine(visit("playground"))
    one = at.multiselect(key="with").value[1]
    at = fine(visit("playground", **{"with": f"{one},nonsense", "prompt": "Mine", "temperature": "0.5"}))
    assert at.multiselect(key="with").value == [one]
    assert at.text_area(key="prompt").value == "Mine"
    assert at.select_slider(key="temperature").value == 0.5


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
