"""What a public demonstration refuses, and what it does not show."""

from __future__ import annotations

from pathlib import Path

import pytest

import come
from come import settings
from come.errors import ComeError
from come.recovery.registry import ways
from come.request import RunConfig
from come.runs import create, prepare
from come.runs.sweep import as_sweep
from come.serving import limits
from come.serving.limits import DEMO, Limits, is_demo, without_paths


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("yes", True), ("", False), ("0", False), ("no", False)])
def test_the_environment_decides(monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("COME_DEMO", value)
    assert is_demo() is expected
    assert limits.current() == (DEMO if expected else Limits())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": "/etc"}, "The model etc is not offered"),
        ({"model": "meta-llama/Llama-2-7b-hf"}, "is not offered"),
        ({"text": "/etc/secret.txt"}, "The text secret.txt is not offered"),
        ({"evaluation_text": "own.jsonl"}, "is not offered"),
        ({"recover_text": "/a/b.txt", "recover": ["refit"]}, "is not offered"),
        ({"n_tokens": 8_193}, "8,193 tokens are more"),
        ({"evaluation_tokens": 9_000}, "9,000 tokens are more"),
        ({"recover": ["distill-mp"], "recover_tokens": 9_000}, "9,000 tokens are more"),
        ({"recover": ["distill-mp"], "recover_tokens": 64, "recover_options": {"distill-mp.minutes": 9.0}}, "minutes"),
        ({"method": "streamline", "options": {"minutes": 100_000.0}}, "100,000.0 minutes"),
        ({"method": "streamline", "options": {"steps": 100_000_000}}, "tokens of training are more"),
        ({"method": "streamline", "options": {"steps": 64, "check_every": 1}}, "tokens of training are more"),
        ({"method": "come-p", "options": {"granularity": 10**9}}, "granularity cannot be 1000000000 here"),
        ({"method": "come-p", "options": {"granularity": None}}, "granularity of come-p cannot be None"),
        ({"method": "mka", "options": {"sample": 8_192}}, "sample cannot be 8192 here"),
        ({"options": {"batch_size": 10**6}}, "tokens in a batch are more"),
        ({"batch_size": 10**6}, "tokens in a batch are more"),
        ({"recover": ["logits"], "recover_tokens": 4096, "recover_options": {"steps": 10**8}}, "tokens of training"),
        (
            {"recover": ["logits"], "recover_tokens": 4096, "recover_options": {"minutes": "long"}},
            "minutes of logits cannot be 'long'",
        ),
        ({"recover": ["lora"], "recover_tokens": 4096, "recover_options": {"lora.rank": 10**6}}, "rank cannot be"),
        ({"recover": ["distill-mp"], "recover_tokens": 4096, "recover_options": {"workers": 64}}, "workers cannot be"),
        ({"recover": ["on-policy"], "recover_tokens": 4096, "recover_options": {"round_tokens": 1 << 20}}, "round_tok"),
        ({"recover": ["logits"], "recover_tokens": 4096, "recover_options": {"checkpoint_minutes": 0}}, "at least 1"),
        ({"recover": ["refit"], "recover_tokens": 4096, "recover_options": {"strengths": [0.1] * 99}}, "strengths"),
        ({"recover": ["logits"] * 4, "recover_tokens": 4096}, "4 ways of recovery are more"),
        ({"evaluate": ["acc"], "task_limit": 10, "tasks": ["mmlu"]}, "many sets of questions"),
        ({"evaluate": ["acc"]}, "All questions are more"),
        ({"evaluate": ["acc"], "task_limit": 1000}, "1,000 questions are more"),
        ({"evaluate": ["acc"], "task_limit": 10, "tasks": ["/a/own.jsonl"]}, "Questions of your own"),
    ],
)
def test_a_run_that_asks_for_too_much_leaves_nothing(demo: None, changes: dict, sentence: str) -> None:
    with pytest.raises(ComeError, match=sentence):
        create(RunConfig.model_validate({"target_layers": 27, "n_tokens": 1024} | changes), allowed=limits.current())
    assert not settings.runs_dir().exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"recover": ["default"], "recover_tokens": 8_192},
        {"recover": ["logits"], "recover_tokens": 8_192, "recover_options": {"minutes": None}},
        {"recover": ["distill-sp"], "recover_tokens": 8_192, "recover_options": {"minutes": 2, "steps": 10**9}},
        {"method": "streamline", "n_tokens": 8_192},
        {"evaluate": ["acc"], "task_limit": 200, "tasks": ["bundled", "mmlu_dev"]},
    ],
)
def test_what_is_usual_may_be_asked_for(changes: dict) -> None:
    DEMO.check_run(RunConfig.model_validate({"target_layers": 27, "n_tokens": 1024} | changes))


def test_every_method_and_way_may_be_asked_for_as_it_is() -> None:
    for name in come.methods():
        DEMO.check_run(RunConfig(method=name, target_layers=27, n_tokens=8_192))
    for name in ways():
        DEMO.check_run(RunConfig(target_layers=27, recover=[name], recover_tokens=8_192))


def test_nothing_of_this_holds_elsewhere() -> None:
    Limits().check_run(RunConfig(model="/any", text="/any.txt", n_tokens=10**9, evaluate=["acc"]))
    Limits().check_request([RunConfig()] * 1000, others=1000)


def test_one_request_works_and_three_wait(demo: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("come.runs.store.checked", lambda config: (config, 27))  # needs no model
    request = RunConfig(target_layers=27, n_tokens=1024)
    prepare(as_sweep([request, request.model_copy(update={"method": "shortgpt"})]), allowed=DEMO)  # counts once
    for _ in range(3):
        create(request, allowed=DEMO)
    with pytest.raises(ComeError, match="3 are waiting"):
        create(request, allowed=DEMO)
    with pytest.raises(ComeError, match="3 are waiting"):
        prepare(as_sweep([request.model_copy(update={"seed": 1})]), allowed=DEMO)


def test_a_sweep_has_few_runs(demo: None) -> None:
    cells = [RunConfig(target_layers=layers, n_tokens=1024) for layers in range(10, 20)]
    with pytest.raises(ComeError, match="10 runs at once"):
        prepare(as_sweep(cells), allowed=DEMO)
    assert not settings.runs_dir().exists()


def test_paths_are_cut_to_their_last_name(demo: None) -> None:
    assert without_paths("See /srv/data/runs/x/log.txt, or ~/.cache/come/a.") == "See …/log.txt, or …/a."
    assert without_paths("https://example.org/a/b Qwen/Qwen2.5 3/4") == "https://example.org/a/b Qwen/Qwen2.5 3/4"
    error = ComeError("The disk of /srv/data is full.", "Look into '/srv/data/log.txt'.")
    assert without_paths(str(error)) == "The disk of …/data is full. Look into '…/log.txt'."


def test_paths_are_shown_elsewhere() -> None:
    assert without_paths("See /srv/data/log.txt.") == "See /srv/data/log.txt."


@pytest.mark.parametrize(
    ("subject", "sentence"),
    [
        ({"model": "/etc"}, "The model etc is not offered"),
        ({"model": "smollm2-135m", "text": "/etc/passwd"}, "The text passwd is not offered"),
        ({"model": "smollm2-135m", "n_tokens": 4097}, "4,097 tokens are more"),
    ],
)
def test_the_resident_process_refuses_the_same(subject: dict, sentence: str) -> None:
    from come.serving.resident.requests import Call, RequestHandler

    call = Call({"do": "whatif", "subject": subject, "question": {}}, lambda message: None, lambda: False)
    with pytest.raises(ComeError, match=sentence):
        RequestHandler(DEMO).answer(call)


@pytest.mark.parametrize(
    ("name", "called"),
    [(".", "This model"), ("/srv/..", "This model"), ("/", "This model"), ("/srv/secret/own", "The model own")],
)
def test_where_a_model_lies_is_not_told(name: str, called: str) -> None:
    with pytest.raises(ComeError) as told:
        DEMO.check_model(name)
    assert told.value.what == f"{called} is not offered here."
