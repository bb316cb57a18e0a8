"""`come push`: what would be sent, sending it, and what stands against it."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

from come.cli import main
from come.request import RunConfig
from come.runs import Run, create, execute
from tests.hub import COMMIT, TOKEN, StubHub, stub_hub
from tests.tiny import tiny_folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that keeps its model."""
    folder = tmp_path_factory.mktemp("finished")
    text = folder / "lines.txt"
    text.write_text("\n".join(f"Line {n}: {n * n} brown foxes jump over {n % 7} lazy dogs." for n in range(400)))
    fields = {"n_tokens": 512, "seq_len": 64, "evaluation_tokens": 256, "target_layers": 3, "method": "shortgpt"}
    with mock.patch.dict(os.environ, {"COME_HOME": str(folder / "home")}):
        made = create(RunConfig(model=str(tiny_folder(folder, layers=4)), text=str(text), **fields), folder / "runs")
        execute(made)
    return made


@pytest.fixture(autouse=True)
def folders(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(run.path.parent))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    with stub_hub(monkeypatch) as stub:
        yield stub


def test_what_would_be_sent_is_told_and_then_it_is_sent(
    run: Run, hub: StubHub, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", run.id, "me/tiny", "--dry-run"]) == 0
    out, err = capsys.readouterr()
    assert err == "" and "model.safetensors" in out and "base_model" not in out and "type: perplexity" in out
    assert out.endswith("Nothing was sent.\n") and hub.asked == 0
    assert main(["push", run.id, "me/tiny", "--dry-run", "--json"]) == 0
    ahead = json.loads(capsys.readouterr().out)
    assert main(["push", str(run.path), "me/tiny", "--private", "--revision", "b", "--message", "m", "--json"]) == 0
    out, err = capsys.readouterr()
    assert (json.loads(out), err) == ({"url": f"{hub.address}/me/tiny/tree/b", "commit": COMMIT}, "")
    (commit,) = hub.commits
    assert (commit.branch, commit.summary, hub.repos) == ("b", "m", {"me/tiny": True})
    assert ahead["files"] == {name: len(content) for name, content in commit.files.items()}
    assert main(["push", run.id, "me/tiny"]) == 0
    assert capsys.readouterr().out == f"Pushed: {hub.address}/me/tiny\n"


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        ("no-such-run me/tiny", 0, "no run"),
        ("RUN tiny", 0, "is no name on the hub"),
        ("RUN tiny --dry-run", 0, "is no name on the hub"),
        ("RUN me/tiny --dtype int4", 0, "not saved in int4"),
        ("RUN", 0, "OWNER/NAME"),
        ("RUN me/tiny", 401, "does not take the token"),
        ("RUN me/tiny", 403, "may not write"),
        ("RUN me/tiny", 404, "has no place"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: str, status: int, sentence: str, run: Run, hub: StubHub, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.refuses = {"/api/": status} if status else {}
    assert main(["push", *arguments.replace("RUN", run.id).split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1) and sentence in err and TOKEN not in err
    assert hub.commits == []


def test_without_a_token_it_says_where_one_comes_from(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    assert main(["push", run.id, "me/tiny"]) == 2
    assert "settings/tokens, and set HF_TOKEN" in capsys.readouterr().err


@pytest.mark.slow
def test_a_process_of_its_own_sends_it_the_hubs_own_way(run: Run, hub: StubHub, tmp_path: Path) -> None:
    """Over Xet, as the hub's library does unless told otherwise; so it comes from the environment alone."""
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path)}
    for name in ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_XET"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "come", "push", run.id, "me/tiny"]
    told = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (told.returncode, told.stdout, told.stderr) == (0, f"Pushed: {hub.address}/me/tiny\n", "")
    weights = (run.path / "model" / "model.safetensors").read_bytes()
    assert hub.commits[0].files["model.safetensors"] == hashlib.sha256(weights).hexdigest().encode()
    assert hub.pieces > len(weights) / 2 and hub.puts == 0  # pieces may be compressed
    assert not [path for path in hub.with_token if path.startswith("/xet/")] and hub.elsewhere == []


def test_its_help_says_what_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", "--help"]) == 0
    out = capsys.readouterr().out
    assert "HF_TOKEN" in out and "--dry-run" in out and "come push" in out
