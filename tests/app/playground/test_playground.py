"""Answers side by side: collected in the background, drawn as HTML, recorded; who may speak."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import come
from app import theme
from app.components import background_job
from app.components.background_job import Job
from app.playground import answers_html, candidates
from app.playground.generation import Answer, Asked, Comparison, Generation, compare_along, generate, record, recorded
from come.errors import ComeError
from come.report.looks import style
from come.runs import Run
from come.serving.cancellation import Cancelled
from come.serving.playground.speech import Along, End, Parting, Sampling, Start, Word
from come.serving.resident import client
from tests.app.conftest import Lab
from tests.rewriting import rewrite_plan, rewrite_request


def word(model: str, position: int, text: str, chance: float = 0.5, token: int = 7) -> Word:
    top = ((token, text, chance), (8, " <b>", 0.1))
    return Word(model, position, token, text, chance, top, math.nan if position == 0 else 9.5)


SAID = [
    Start("<user>Hi", 3, True),
    word("original", 0, "The", 0.95),
    word("a", 0, "The", 0.15),
    word("original", 1, " sky"),
    word("a", 1, " <script>alert(1)</script>\n", token=9),
    Parting("a", 1, 9, 7),
    word("original", 2, ""),
    End("original", "stop", 3, "The sky", 0.5, 9.5),
    End("a", "length", 2, "The", 0.5, 9.5),
]


def asked(**fields: object) -> Asked:
    return Asked(
        **{"model": "m", "prompt": "Hi", "plans": {"a": "p.json"}, "names": {"original": "Original", "a": "A & B"}}
        | fields
    )  # type: ignore[arg-type]


def told(*said: object) -> Generation:
    generation = Generation(asked())
    for each in said or SAID:
        generation.add(each)  # type: ignore[arg-type]
    generation.status = "done"
    return generation


def wait(job: Job) -> None:
    deadline = time.monotonic() + 90
    while job.active and time.monotonic() < deadline:
        job.look()
        time.sleep(0.02)
    assert not job.active


# --- jobs ---------------------------------------------------------------------------------------------


def fails(error: Exception) -> Callable[[], None]:
    def work() -> None:
        raise error

    return work


def test_a_job_ends_in_one_of_four_ways() -> None:
    for work, status, words in (
        (lambda: None, "done", ""),
        (fails(ComeError("No.", "Do.")), "failed", "No. Do."),
        (fails(Cancelled()), "stopped", ""),
        (fails(RuntimeError("secret")), "failed", background_job.OUR_FAULT),
    ):
        job = Job()
        job.begin(work)
        wait(job)
        assert (job.status, job.problem) == (status, words)


def test_a_stopped_job_stays_stopped() -> None:
    job = Job()
    job.stop()
    with pytest.raises(Cancelled):
        job.go_on()
    job.begin(fails(ComeError("No.", "Do.")))
    time.sleep(0.1)
    assert job.status == "stopped"


def test_what_nobody_watches_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background_job, "SECONDS_UNSEEN", 1.0)
    closed = []

    def endless(*_: object, **__: object) -> Iterator[object]:
        try:
            yield SAID[0]
            for position in range(10**6):
                time.sleep(0.01)
                yield word("original", position, "a")
        finally:
            closed.append(True)

    monkeypatch.setattr(client, "generate", endless)
    generation = generate(asked(), "me")
    deadline = time.monotonic() + 60
    while generation.active and time.monotonic() < deadline:
        time.sleep(0.02)
    assert generation.status == "stopped" and closed
    assert generation.answers["original"].words


# --- answers ------------------------------------------------------------------------------------------


def test_what_is_said_is_sorted_by_voice() -> None:
    generation = told()
    assert generation.answers["original"].text == "The sky"
    assert generation.partings() == {1: ["A & B"]}
    assert generation.answers["a"].unsure == 1
    assert generation.whole_text() == "<user>HiThe sky"
    answer = generation.answers["a"]
    assert answers_html.numbers(answer) == "2 tokens · unsure of\N{NO-BREAK SPACE}1 · cut off", "too few for a speed"
    answer.words.extend(answer.words[-1:] * answers_html.ENOUGH)
    assert answers_html.numbers(answer).startswith("9.5 tokens/s · 18 tokens")


@pytest.mark.parametrize(
    ("texts", "reason", "at_once"), [([""], "stop", True), (["Hi", ""], "stop", False), ([""], "length", False)]
)
def test_an_answer_that_ends_at_once(texts: list[str], reason: str, at_once: bool) -> None:
    answer = Answer("a", [word("a", place, text) for place, text in enumerate(texts)], None)
    answer.end = End("a", reason, len(texts), "".join(texts), 0.1, math.nan)
    assert answer.stopped_at_once is at_once


def test_answers_are_escaped_and_marked() -> None:
    shown = answers_html.answers(told())
    assert "<script>" not in shown and "<b> " not in shown
    assert "A &amp; B" in shown
    assert shown.count("<mark class='t u1 part'") == 1
    assert "The original wrote “␣sky”" in shown
    assert "A &amp; B goes on differently here" in shown
    assert "another word from token 2 on" in shown
    assert "■" in shown  # where the original ended


def test_a_hover_tells_chances_once_the_words_have_come() -> None:
    generation = told()
    assert "50.0%  “␣sky”" in answers_html.answers(generation)
    generation.status = "working"
    shown = answers_html.answers(generation)
    assert "data-tip='" not in shown and "▍" not in shown  # both have ended


@pytest.mark.parametrize(
    ("chance", "name"), [(0.95, "u0"), (0.9, "u0"), (0.5, "u1"), (0.2, "u2"), (0.19, "u3"), (0.0, "u3")]
)
def test_the_underline_grows_with_doubt(chance: float, name: str) -> None:
    assert answers_html.level(chance) == name


def test_a_model_that_outlasts_the_original_parts_where_that_ended() -> None:
    generation = told(
        SAID[0],
        word("original", 0, ""),
        word("a", 0, "x", token=1),
        End("original", "stop", 1, "", 0.1, math.nan),
        word("a", 1, "y"),
        Parting("a", 1, 7, None),
    )
    shown = answers_html.answers(generation)
    assert "The original had ended before" in shown
    assert "A &amp; B went on here" in shown


def test_before_the_first_token() -> None:
    generation = Generation(asked())
    generation.news = "Loading <m>"
    assert "Loading &lt;m&gt;" in answers_html.answers(generation)
    generation.status = "working"
    assert "Reading the prompt" in answers_html.answers(generation)


def test_a_model_has_its_methods_colour() -> None:
    methods = list(come.methods())
    shown = answers_html.answers(Generation(asked(methods={"a": "shortgpt"})))
    assert f"--voice:{style('shortgpt', methods).color}" in shown and f"--voice:{theme.ORIGINAL}" in shown
    assert answers_html.color("b", {"b": "come"}) == style("come", methods).color != style("shortgpt", methods).color


def test_a_recording_comes_back(tmp_path: Path) -> None:
    found = Along(tokens=(1, 2), pieces=("a", "b"), chances={"original": (0.5,)}, kl={"a": (0.1, 0.2)}, at=1, top={})
    path = tmp_path / "kept.json"
    record(told(), SAID, found, path)  # type: ignore[arg-type]
    kept = recorded(path, {"a": "here/plan.json"}, {"original": "Original", "a": "A"}, {"a": "shortgpt"})
    assert kept is not None
    generation, look = kept
    assert generation.answers["a"].parting == SAID[5]
    assert generation.asked.plans == {"a": "here/plan.json"}
    assert look.found == found
    assert "tokens/s" not in answers_html.numbers(generation.answers["a"])
    assert recorded(path, {}, {}, {}) is None
    assert recorded(tmp_path / "none.json", {}, {}, {}) is None


def test_the_shipped_recording_is_of_the_shipped_runs(lab: Lab) -> None:
    offer = candidates.offer("smollm2-135m")
    kept = candidates.recording(offer)
    assert kept is not None
    generation, look = kept
    assert list(generation.asked.plans) == offer.default()
    assert look.found is not None and len(look.found.kl) == len(generation.asked.plans)
    assert generation.answers["original"].text.endswith("Paris.")


# --- along a text --------------------------------------------------------------------------------------


def test_a_beginning_that_would_be_there_twice_is_asked_without(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = []

    def along(subject: object, text: str, plans: object, **_: object) -> Along:
        texts.append(text)
        pieces = ("<s>", "<s>", "a") if text.startswith("<s>") else ("<s>", "a")
        return Along(tokens=tuple(map(ord, (p[0] for p in pieces))), pieces=pieces, chances={}, kl={}, at=0, top={})

    monkeypatch.setattr(client, "along", along)
    look = compare_along(asked(), "<s>a", "me", chat=False)
    wait(look)
    assert texts == ["<s>a", "a"]
    assert look.found is not None and look.found.pieces == ("<s>", "a")
    plain = compare_along(asked(), "a", "me", chat=False)
    wait(plain)
    assert texts[2:] == ["a"]


# --- who may speak -------------------------------------------------------------------------------------


def test_the_finished_runs_of_the_model_are_offered(lab: Lab) -> None:
    offer = candidates.offer(str(lab.model))
    assert not offer.borrowed
    assert sorted(found.name for found in offer.candidates.values()) == ["CoMe, 4 layers", "ShortGPT, 4 layers"]
    assert set(offer.default()) == set(offer.candidates)
    assert offer.unlike(offer.default()) == ""


def test_runs_that_are_not_done_or_broken_are_not_offered(lab: Lab) -> None:
    before = set(candidates.offer(str(lab.model)).candidates)
    lab.create(target_layers=4)
    broken = lab.create(target_layers=3)
    (broken.path / "plan.json").write_text("{")
    broken.update(status="done")
    bare = lab.create(target_layers=3)
    bare.update(status="done")
    assert set(candidates.offer(str(lab.model)).candidates) == before


def test_models_of_two_dtypes_are_not_compared(lab: Lab) -> None:
    offer = candidates.offer(str(lab.model))
    first, second = offer.candidates
    path = Path(offer.candidates[second].plan)
    rewrite_plan(Run(path.parent), json.loads(path.read_text()) | {"dtype": "bfloat16"})
    offer = candidates.offer(str(lab.model))
    assert "float32" in offer.unlike([first, second])
    assert offer.default() == [first]


def test_runs_that_were_started_together_are_chosen_together(lab: Lab) -> None:
    names = []
    for run in reversed(come.runs.list_runs(lab.runs)):
        if run.config.kind == "compress":
            asked = json.loads((run.path / "config.json").read_text())
            rewrite_request(run, asked | {"sweep": "mine-1"})
            names.append(run.id)
    assert candidates.offer(str(lab.model)).default() == names, "the first of them first"


def test_a_model_without_runs_borrows_the_example(lab: Lab) -> None:
    offer = candidates.offer("some/other")
    assert offer.borrowed and offer.model == "smollm2-135m"
    assert [offer.candidates[run].name for run in offer.default()] == [
        "CoMe, 27 layers",
        "CoMe, 24 layers",
        "CoMe, 21 layers",
    ]


def test_a_chat_template_is_found_without_loading(lab: Lab, tmp_path: Path) -> None:
    assert candidates.answers_questions(str(lab.model)) is False
    assert candidates.answers_questions("smollm2-135m") is True
    assert candidates.answers_questions("no/such-model-on-disk") is None
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    assert candidates.answers_questions(str(tmp_path)) is True


def test_tiny_models_really_speak(lab: Lab) -> None:
    """With the resident process: answers, and a look along them."""
    offer = candidates.offer(str(lab.model))
    plans = {run: found.plan for run, found in offer.candidates.items()}
    who = Asked(offer.model, "Line 3", plans, offer.names, Sampling(new_tokens=4, top=3))
    try:
        generation = generate(who, "me")
        wait(generation)
        assert (generation.status, generation.problem) == ("done", "")
        assert all(answer.words and answer.end for answer in generation.answers.values())
        look = compare_along(who, generation.whole_text(), "me", chat=False, at=2)
        wait(look)
        assert look.found is not None and look.found.at == 2 and set(look.found.kl) == set(plans)
    finally:
        client.stop()


def test_what_was_asked_is_found_behind_a_template() -> None:
    asked = Asked(model="m", prompt=" Why? ", plans={}, names={}, sampling=Sampling(), methods={})
    found = Along.model_construct(pieces=("<sys>", "be kind", "\n", "Why", "?"))
    assert Comparison(asked, "Why?", True, None, found).since == 3
    assert Comparison(asked, "Why?", True, None, None).since == 0
