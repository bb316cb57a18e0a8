"""The resident process: shared by visitors, restarted when it is gone, ended when nobody needs it any more."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import come
from come import processes
from come.errors import ComeError
from come.evaluate import measure_divergence, reference
from come.plan.plan import Plan
from come.serving.cancellation import Cancelled
from come.serving.playground.speech import End, Sampling, Word
from come.serving.resident import address as addresses
from come.serving.resident import client, connection
from come.serving.resident.server import LONGEST_BODY
from come.serving.whatif.question import Merge, Question, Subject
from come.transforms.rebuild import replay
from tests.tiny import tiny_folder

pytestmark = pytest.mark.usefixtures("resident")
EDITS = Question(merges=(Merge(first=1, last=2),), dropped=(4,))


def wait_until(condition: Callable[[], object]) -> None:
    """A generous wait: it ends a hanging test, it judges no time."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def evaluated(subject: Subject, plan: Plan) -> dict[str, float]:
    """What this process finds of a plan on the subject's tokens."""
    bundle = come.load(subject.model, device="cpu")
    held_out = come.tokens(bundle, subject.text, subject.n_tokens, subject.seq_len, "evaluation", bos=subject.bos)
    text, divergence = measure_divergence(replay(bundle, plan), reference(bundle, held_out))
    return {"perplexity": text.value, "kl": divergence.value, "bits_per_byte": text.bits_per_byte}


def pid() -> int:
    address = addresses.read_address()
    assert address is not None
    return address.pid


def test_the_client_imports_no_model_code() -> None:
    code = "import sys, come.serving.resident.client; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_two_visitors_with_two_models_do_not_mix(subjects: dict[str, Subject]) -> None:
    def visit(name: str) -> tuple[list[client.Answer], Plan]:
        subject = subjects[name]
        questions = [EDITS, Question(dropped=(0,)), Question(merges=(Merge(first=3, last=5),)), EDITS]
        answers = [client.whatif(subject, question, key=name) for question in questions]
        return answers, Plan.model_validate(client.plan(subject, EDITS, key=name))

    with ThreadPoolExecutor() as visitors:
        found = dict(zip(subjects, visitors.map(visit, subjects), strict=True))
    for name, (answers, plan) in found.items():
        expected = evaluated(subjects[name], plan)
        assert {figure: getattr(answers[0], figure) for figure in expected} == pytest.approx(expected, rel=1e-6)
        assert answers[3].cached and answers[3].losses == answers[0].losses
    status = client.status()
    assert status is not None
    assert sorted(Path(each["model"]).name for each in status["models"]) == ["tiny-gpt2", "tiny-llama"]


def test_a_question_is_answered_on_sequences_that_begin_as_it_says(subjects: dict[str, Subject]) -> None:
    answers = {}
    for bos in ("always", "never"):
        subject = subjects["llama"].model_copy(update={"bos": bos})
        answers[bos] = client.whatif(subject, EDITS)
        found = evaluated(subject, Plan.model_validate(client.plan(subject, EDITS)))
        assert answers[bos].perplexity == pytest.approx(found["perplexity"], rel=1e-6)
    assert client.whatif(subjects["llama"], EDITS).losses == answers["never"].losses, "its tokenizer puts none"
    assert answers["always"].losses != answers["never"].losses
    contexts = client.contexts(subjects["llama"].model_copy(update={"bos": "always"}), layer=2, channel=5)
    assert contexts != client.contexts(subjects["llama"], layer=2, channel=5)


def test_visitors_of_one_model_share_it_and_one_process(subjects: dict[str, Subject]) -> None:
    question = Question(dropped=(1, 2))
    with ThreadPoolExecutor() as visitors:
        answers = list(visitors.map(lambda key: client.whatif(subjects["llama"], question, key=key), "abcd"))
    assert len({answer.perplexity for answer in answers}) == 1
    status = client.status()
    assert status is not None
    assert [Path(each["model"]).name for each in status["models"]].count("tiny-llama") == 1
    assert all(each["users"] == 0 for each in status["models"])


def test_errors_of_the_user_come_back_as_they_are(subjects: dict[str, Subject]) -> None:
    with pytest.raises(ComeError, match=r"no layer 9") as caught:
        client.whatif(subjects["llama"], Question(dropped=(9,)))
    assert caught.value.hint == "Drop another one."
    with pytest.raises(ComeError, match="no folder"):
        client.whatif(Subject(model="./nowhere"))
    with pytest.raises(ComeError, match="holds no measurement"):
        client.whatif(subjects["llama"].model_copy(update={"analysis": "/nowhere"}), EDITS)
    with pytest.raises(ComeError, match="Nobody answers"):
        list(connection.converse("dance", {}))
    with pytest.raises(ComeError, match="more than is allowed"):
        client.whatif(subjects["llama"].model_copy(update={"n_tokens": 1 << 20}))


def test_suggestions_and_plans_of_runs_are_answered(subjects: dict[str, Subject], tmp_path: Path) -> None:
    subject = subjects["llama"]
    (found,) = client.suggest(subject, Question())
    taken = Question(merges=(Merge(first=found.first, last=found.last),))
    assert client.whatif(subject, taken).losses == found.answer.losses
    bundle = come.load(subject.model, device="cpu")
    result = come.compress(bundle, come.tokens(bundle, subject.text, 512, 64), target_layers=4)
    plan = result.plan.with_tensors({"model.norm.weight": bundle.model.model.norm.weight * 2})
    plan.write(tmp_path / "plan.json")
    answer = client.whatif(subject, plan=tmp_path / "plan.json")
    assert answer.perplexity == pytest.approx(evaluated(subject, plan)["perplexity"], rel=1e-6)
    assert client.whatif(subject, plan=result.plan.model_dump_json()).perplexity != answer.perplexity


def test_what_was_written_anew_is_read_anew(subjects: dict[str, Subject], tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    found = []
    for seed, factor in ((0, 3), (0, 7), (1, 7)):
        text.write_text("\n".join(f"{number} times {factor} is {number * factor}." for number in range(1500)))
        folder = tiny_folder(tmp_path, "llama", seed=seed)
        subject = subjects["llama"].model_copy(update={"model": str(folder), "text": str(text)})
        answer, plan = client.whatif(subject, EDITS), Plan.model_validate(client.plan(subject, EDITS))
        assert answer.perplexity == pytest.approx(evaluated(subject, plan)["perplexity"], rel=1e-6)
        found.append(answer.perplexity)
    assert len(set(found)) == 3


def test_models_speak_as_they_go(subjects: dict[str, Subject]) -> None:
    plan = client.plan(subjects["llama"], EDITS)
    said = list(
        client.generate(
            subjects["llama"], "12 times", {"edited": Plan(**plan).model_dump_json()}, Sampling(new_tokens=5, top=2)
        )
    )
    assert {each.model for each in said if isinstance(each, Word)} == {"original", "edited"}
    assert sum(isinstance(each, End) for each in said) == 2
    given = {"edited": Plan(**plan).model_dump_json()}
    found = client.along(subjects["llama"], "12 times 12 is", given, at=3)
    assert "".join(found.pieces).replace(" ", "") == "12times12is" and len(found.kl["edited"]) == 14
    opened = client.along(subjects["llama"], "12 times 12 is", given, since="is")
    kl = opened.kl["edited"]
    assert opened.at >= 12 and kl[opened.at] == max(kl[12:]), "in one question, the token that departs most is found"


def test_a_newer_question_of_the_same_visitor_ends_the_older(subjects: dict[str, Subject]) -> None:
    subject, long, ended = subjects["llama"], Sampling(new_tokens=200), False
    for _ in range(20):  # the older may have said everything before the newer is asked
        older = client.generate(subject, "1", sampling=long, key="me")
        other = client.generate(subject, "1", sampling=long, key="somebody else")
        next(older), next(other)
        newer = client.generate(subject, "2", sampling=Sampling(new_tokens=1), key="me")
        assert sum(isinstance(each, Word) for each in newer) == 1
        try:
            list(older)
        except Cancelled:
            ended = True
        assert sum(isinstance(each, Word) for each in other) == 200
        if ended:
            return
    raise AssertionError("The older question was never ended.")


def test_who_goes_away_is_not_served_on(subjects: dict[str, Subject]) -> None:
    said = client.generate(subjects["llama"], "1", sampling=Sampling(new_tokens=240), key="gone")
    next(said)
    said.close()  # type: ignore[attr-defined]
    wait_until(lambda: all(each["users"] == 0 for each in (client.status() or {})["models"]))


def test_a_killed_process_is_started_anew_and_says_the_same(subjects: dict[str, Subject]) -> None:
    before, first = client.whatif(subjects["llama"], EDITS), pid()
    said = client.generate(subjects["llama"], "1", sampling=Sampling(new_tokens=240))
    next(said)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(ComeError, match="has ended"):
        list(said)
    wait_until(lambda: not psutil.pid_exists(first))
    with ThreadPoolExecutor() as callers:  # who all find it gone, and start one
        after = list(callers.map(lambda _: client.whatif(subjects["llama"], EDITS), range(3)))
    assert {answer.losses for answer in after} == {before.losses}
    assert pid() != first
    log = (addresses.folder() / "log.txt").read_text()
    assert "Traceback" not in log, log


def test_one_that_does_not_answer_is_not_waited_for(
    subjects: dict[str, Subject], monkeypatch: pytest.MonkeyPatch
) -> None:
    client.whatif(subjects["llama"])
    monkeypatch.setattr(connection, "SECONDS_TO_ACCEPT", 0.5)
    said = client.generate(subjects["llama"], "1", sampling=Sampling(new_tokens=20))
    short = client.generate(subjects["llama"], "1", sampling=Sampling(new_tokens=240), timeout=0.5)
    stopped = pid()
    next(said), next(short)
    os.kill(stopped, signal.SIGSTOP)
    try:
        for ask in (client.status, lambda: list(connection.converse("status", {})), lambda: list(short)):
            with pytest.raises(ComeError, match="does not answer"):
                ask()
    finally:
        os.kill(stopped, signal.SIGCONT)
    assert sum(isinstance(each, Word) for each in said) == 20, "what it has accepted may take longer"
    monkeypatch.undo()
    assert client.status() is not None and pid() == stopped


def test_only_the_user_can_reach_it(subjects: dict[str, Subject]) -> None:
    client.whatif(subjects["llama"])
    address = addresses.read_address()
    assert address is not None
    for path in (addresses.folder(), addresses.folder() / "address.json", Path(address.path)):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_what_is_too_long_to_read_is_refused(subjects: dict[str, Subject]) -> None:
    with pytest.raises(ComeError, match="longer than the model process reads"):
        client.whatif(subjects["llama"], plan="{" + " " * LONGEST_BODY)
    assert client.whatif(subjects["llama"]).kl == 0


def test_it_works_over_the_loopback_interface_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("long" * 30)  # no path for a Unix socket
    monkeypatch.setenv("COME_HOME", str(deep))
    try:
        list(connection.converse("status", {}))
        address = addresses.read_address()
        assert address is not None and address.path == "" and address.port > 0
        for secret in ("", "guessed"):  # other users of this machine reach the port
            with connection._client(replace(address, secret=secret)) as stranger:
                assert [stranger.get("/").status_code, stranger.post("/status", json={}).status_code] == [401, 401]
    finally:
        client.stop()
    assert client.status() is None


@pytest.mark.slow
def test_it_ends_when_idle_or_when_nobody_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    list(connection.converse("status", {}, idle_seconds=4.0))  # time to look at it, on a busy machine
    first = addresses.read_address()
    assert first is not None
    wait_until(lambda: not processes.is_alive(first.pid, first.start_id))
    assert addresses.read_address() is None
    code = "from come.serving.resident import connection; list(connection.converse('status', {}))"
    subprocess.run([sys.executable, "-c", code], check=True)
    orphan = addresses.read_address()  # none, where it has left already
    wait_until(lambda: orphan is None or not processes.is_alive(orphan.pid, orphan.start_id))
    assert addresses.read_address() is None


def test_progress_is_told_while_it_prepares(subjects: dict[str, Subject]) -> None:
    events: list[str] = []
    another = subjects["llama"].model_copy(update={"evaluation_seed": 7, "seed": 7})
    client.whatif(another, EDITS, on_progress=lambda event: events.append(event.stage))
    assert {"original", "measure"} <= set(events)


def test_a_model_that_does_not_fit_beside_others_takes_their_place(subjects: dict[str, Subject]) -> None:
    from come.serving.cancellation import never
    from come.serving.limits import Limits
    from come.serving.resident.models import Models

    models = Models(Limits(model_bytes=1))
    with models.using(subjects["llama"].model, "cpu", "float32", never):
        assert [Path(each["model"]).name for each in models.now()] == ["tiny-llama"]
        with (
            pytest.raises(ComeError, match="other visitors"),
            models.using(subjects["gpt2"].model, "cpu", "float32", never),
        ):
            pass
    with models.using(subjects["gpt2"].model, "cpu", "float32", never):
        assert [Path(each["model"]).name for each in models.now()] == ["tiny-gpt2"]
    with pytest.raises(ComeError, match="not offered"), Models(Limits(models=("a",))).using("b", "cpu", "auto", never):
        pass


def test_everybody_gets_a_turn() -> None:
    from come.serving.resident.worker import Worker

    worker, order, gate = Worker(), [], threading.Event()
    with ThreadPoolExecutor() as callers:
        blocked = callers.submit(worker.do, gate.wait)

        def steps(name: str) -> None:
            for _ in range(3):
                worker.do(lambda: (order.append(name), time.sleep(0.05)))

        waiting = [callers.submit(steps, name) for name in "ab"]
        quitter = callers.submit(worker.do, lambda: order.append("c"), lambda: True)
        with pytest.raises(Cancelled):
            quitter.result()
        gate.set()
        for each in (blocked, *waiting):
            each.result()
    assert sorted(order) == list("aaabbb") and "aaa" not in "".join(order)
    assert worker.do(lambda: worker.give_way()) is None
    with pytest.raises(ZeroDivisionError):
        worker.do(lambda: 1 / 0)

    def too_late() -> None:
        raise TimeoutError

    with pytest.raises(TimeoutError):
        worker.do(too_late)


def test_what_excites_a_channel_is_told_of_the_calibration_text(subjects: dict[str, Subject]) -> None:
    found = client.contexts(subjects["llama"], layer=2, channel=5)
    assert len(found) == 10
    assert sorted((abs(each["activation"]) for each in found), reverse=True) == [
        abs(each["activation"]) for each in found
    ]
    assert client.contexts(subjects["llama"], layer=2, channel=5) == found
    words = client.next_words(subjects["llama"], layer=2, channel=5)
    assert len(words["promoted"]) == len(words["suppressed"]) == 8
    for asked in (client.contexts, client.next_words):
        with pytest.raises(ComeError):
            asked(subjects["llama"], layer=2, channel=10**6)


def test_a_model_measured_on_what_it_says_is_asked_about_on_the_default_text(subjects: dict[str, Subject]) -> None:
    subject = subjects["llama"].model_copy(update={"text": "self"})
    told: list[str] = []
    answer = client.whatif(subject, EDITS, on_progress=lambda event: told.append(event.message))
    assert answer.perplexity > 0
    default = subjects["llama"].model_copy(update={"text": "python-docs"})
    assert client.whatif(subject, Question()).losses == client.whatif(default, Question()).losses, "of the originals"
    assert "Sampling 8 sequences from the model" in told
    assert len(client.contexts(subject, layer=2, channel=5)) == 10
