"""Pushing a finished run's model to a stub of the hub: what arrives, who learns the token, how a refusal is told."""

from __future__ import annotations

import json
import os
import shutil
import socket
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from come.errors import ComeError
from come.export import hub as hub_module
from come.export.hub import Destination, Pushed
from come.files import human_bytes
from come.request import RunConfig
from come.runs import Run, create, execute
from come.runs.push import preview, push
from come.serving import push as pushing
from come.serving import side_jobs
from tests.hub import COMMIT, TOKEN, StubHub, stub_hub

TO = Destination("me/tiny-4-layers")


@pytest.fixture(scope="module")
def executed(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("executed")
    fields: dict[str, Any] = {"n_tokens": 512, "seq_len": 64, "evaluation_tokens": 256, "recover_tokens": 512}
    config = RunConfig(
        model=str(model), text=str(text), method="shortgpt", target_layers=4, recover=["refit"], **fields
    )
    with mock.patch.dict(os.environ, {"COME_HOME": str(folder / "home")}):
        run = create(config, folder / "runs")
        execute(run)
    return run


@pytest.fixture
def run(executed: Run, tmp_path: Path) -> Run:
    """A finished run that keeps its model, with tensors beside its plan."""
    return Run(Path(shutil.copytree(executed.path, tmp_path / "runs" / executed.id)))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    with stub_hub(monkeypatch) as stub:
        yield stub


def quietly(run: Run, to: Destination = TO) -> Pushed:
    return push(run, to, lambda _: None)


def test_what_arrives_is_the_folder_with_plan_results_and_card(run: Run, hub: StubHub, model: Path) -> None:
    pushed = quietly(run, replace(TO, message="Four layers"))
    assert pushed == Pushed(f"{hub.address}/me/tiny-4-layers", COMMIT)
    (commit,) = hub.commits
    folder = {path.name: path.read_bytes() for path in (run.path / "model").iterdir()}
    assert (commit.branch, commit.summary) == ("main", "Four layers")
    assert commit.files.keys() == {*folder, "results.json"} and any(name.startswith("weights-") for name in folder)
    same = commit.files.keys() - {"README.md", "plan.json"}
    assert {name: commit.files[name] for name in same} == {
        **{name: content for name, content in folder.items() if name in same},
        "results.json": (run.path / "results.json").read_bytes(),
    }
    plan, told = json.loads(folder["plan.json"]), json.loads(commit.files["plan.json"])
    assert told == {**plan, "base": {**plan["base"], "source": model.name}}
    assert not [name for name, content in commit.files.items() if str(model.parent).encode() in content]
    card, kept = (ModelCard(content.decode()) for content in (commit.files["README.md"], folder["README.md"]))
    assert card.text == kept.text and card.data.model_name == "tiny-4-layers"
    assert card.data.eval_results[0].metric_value == run.results()["pruned"]["perplexity"]


def test_a_model_is_made_from_its_plan_where_none_is_kept(run: Run, hub: StubHub, tmp_path: Path) -> None:
    kept = load_file(run.path / "model" / "model.safetensors")
    shutil.rmtree(run.path / "model")
    ahead, told = preview(run, TO.repo), []
    push(run, TO, told.append)
    (tmp_path / "arrived").write_bytes(hub.commits[0].files["model.safetensors"])
    arrived = load_file(tmp_path / "arrived")
    assert arrived.keys() == kept.keys() and all(arrived[name].equal(kept[name]) for name in kept)
    assert (
        ahead.made_bytes == sum(each.nbytes for each in kept.values())
        and ahead.files.keys() < hub.commits[0].files.keys()
    )
    assert "Making the model from its plan" in told and list(run.path.glob(".pack-*")) == []


def test_what_is_foretold_is_what_is_sent(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    with mock.patch.object(socket.socket, "connect", side_effect=AssertionError("it connects")):
        ahead = preview(run, TO.repo)
    assert hub.asked == 0
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", TOKEN)
    quietly(run)
    assert ahead.files == {name: len(content) for name, content in hub.commits[0].files.items()}
    assert ahead.made_bytes == 0 and ModelCard(f"---\n{ahead.card}\n---\n").data.model_name == "tiny-4-layers"


def test_the_token_is_told_to_the_hub_alone_and_in_its_header(
    run: Run, hub: StubHub, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    quietly(run, Destination("me/tiny", private=True, revision="four"))
    assert {"/api/repos/create", "/api/models/me/tiny/commit/four"} <= set(hub.with_token)
    assert any(path.startswith("/store/") for path in hub.without)  # which is the storage's, not the hub's
    assert not [path for path in hub.without if "/models/" in path or "/repos/" in path] and hub.elsewhere == []
    assert hub.repos == {"me/tiny": True} and hub.branches == ["four"]
    out, err = capfd.readouterr()
    assert TOKEN not in out + err + caplog.text
    assert not [path for path in run.path.rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()]


@pytest.mark.parametrize(
    ("part", "status", "sentence"),
    [
        ("/repos/create", 401, "does not take the token for me/tiny-4-layers. Make one that may write, at http://127"),
        ("/repos/create", 404, "has no place me/tiny-4-layers. Check the owner"),
        ("/preupload/", 403, "The token may not write to me/tiny-4-layers. Use one that may"),
        ("/objects/batch", 403, "The token may not write to me/tiny-4-layers. Use one that may"),
        ("/commit/", 404, "has no place me/tiny-4-layers. Check the owner"),
        (
            "/commit/",
            409,
            "Something else changes me/tiny-4-layers at the same time, so nothing was committed. Push again",
        ),
        ("/commit/", 400, "refused me/tiny-4-layers (400: No, says the hub, to …). Put that right"),
        ("/commit/", 500, "has trouble of its own (500). Wait a while. Push again"),
        ("/validate-yaml", 429, "too many requests of this token. Wait a few minutes"),
        ("/store/", 403, "The token may not write to me/tiny-4-layers. Use one that may"),
    ],
)
def test_a_refusal_is_one_sentence_and_the_push_can_be_repeated(
    part: str, status: int, sentence: str, run: Run, hub: StubHub
) -> None:
    hub.refuses = {part: status, "/api/models/me/tiny-4-layers": status} if part == "/repos/create" else {part: status}
    with pytest.raises(ComeError) as refused:
        quietly(run)
    assert sentence in str(refused.value)
    assert TOKEN not in "".join(traceback.format_exception(refused.value)) and hub.commits == []
    hub.refuses.clear()
    quietly(run)
    assert len(hub.commits) == 1 and hub.puts == len(hub.stored)  # nothing was stored twice


def test_a_push_to_what_is_there_adds_a_commit_but_shows_nothing_that_should_be_private(run: Run, hub: StubHub) -> None:
    quietly(run)
    quietly(run)
    assert len(hub.commits) == 2 and hub.repos == {TO.repo: False}
    with pytest.raises(ComeError, match="on the hub already and is public, so nothing was sent"):
        quietly(run, replace(TO, private=True))
    assert len(hub.commits) == 2


def test_each_large_file_is_told_of(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "LARGE", 50_000)
    told: list[str] = []
    push(run, TO, told.append)
    size = (run.path / "model" / "model.safetensors").stat().st_size
    assert told == [
        "Asking the hub for me/tiny-4-layers",
        f"Sending model.safetensors, {human_bytes(size)} (1 of 1)",
        "Committing",
    ]


@pytest.mark.parametrize(
    "repo", ["tiny", "me/tiny/more", "me/", "/tiny", "", "me/ti ny", "me/..", "https://hub/me", "é/a"]
)
def test_a_name_that_the_hub_cannot_have_is_refused_before_it_is_asked(repo: str, run: Run, hub: StubHub) -> None:
    for refuse in (lambda: quietly(run, Destination(repo)), lambda: preview(run, repo)):
        with pytest.raises(ComeError, match="is no name on the hub"):
            refuse()
    assert hub.asked == 0


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("HF_TOKEN", "", "There is no token for the hub. Make one that may write"),
        ("HF_TOKEN", "hf_one\nhf_two", "HF_TOKEN holds signs that no token has"),
        ("HF_TOKEN", "hf_größe", "HF_TOKEN holds signs that no token has"),
    ],
)
def test_a_token_that_is_none_is_refused_untold(
    variable: str, value: str, sentence: str, run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ComeError, match=sentence) as refused:
        quietly(run)
    assert hub.asked == 0 and (not value or value.split()[0] not in str(refused.value))


def test_a_stored_login_is_not_used(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(ComeError, match="no token"):
        quietly(run)
    assert hub.asked == 0


def test_without_a_hub_nothing_is_made(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("come.runs.push.model_in", lambda *_: pytest.fail("a model is made"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ComeError, match="switched off here"):
        quietly(run)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ComeError, match=r"was not sent, or not all .* Can http://127.0.0.1:9 be reached\? Push again"):
        quietly(run)


def test_a_run_without_a_model_is_refused(run: Run, hub: StubHub) -> None:
    with pytest.raises(ComeError, match="is not saved in int4"):
        push(run, TO, lambda _: None, "int4")
    run.update(status="failed")
    with pytest.raises(ComeError, match="is failed"):
        quietly(run)
    run.update(status="done")
    (run.path / "plan.json").unlink()
    with pytest.raises(ComeError, match="has no plan, so it has no model"):
        quietly(run)
    assert hub.asked == 0


# --- in the background, for the page -----------------------------------------------------------------


def here(run: Run, monkeypatch: pytest.MonkeyPatch) -> side_jobs.SideJob:
    """Pushed as a side job, in this process."""
    (run.path / "takeaway").mkdir(exist_ok=True)
    monkeypatch.setattr("sys.argv", ["push", str(run.path), json.dumps(asdict(TO))])
    pushing.main()
    return pushing.pushed(run)


def test_a_side_job_ends_in_a_link(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    job = here(run, monkeypatch)
    assert job.status == "done" and (job.values["repo"], job.values["url"]) == (TO.repo, f"{hub.address}/{TO.repo}")
    assert TOKEN not in (run.path / "takeaway" / "push.json").read_text()


def test_a_side_job_that_was_refused_says_why(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses = {"/commit/": 403}
    job = here(run, monkeypatch)
    assert job.status == "failed" and "may not write" in job.error and "HF_TOKEN" in job.hint
    assert not (run.path / "log.txt").exists() or TOKEN not in (run.path / "log.txt").read_text()


def test_a_side_job_is_given_all_but_the_token(run: Run, hub: StubHub, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[tuple[str, ...]] = []
    start: Callable[..., Any] = lambda *arguments: given.append(arguments) or mock.Mock(pid=os.getpid())  # noqa: E731
    monkeypatch.setattr(side_jobs, "start_detached", start)
    pushing.start(run, TO)
    assert given == [("come.serving.push", str(run.path), json.dumps(asdict(TO)))]
    assert pushing.pushed(run).status == "working"


def test_strangers_push_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    with pytest.raises(ComeError, match="nothing is sent to the hub"):
        pushing.start(run, TO)
