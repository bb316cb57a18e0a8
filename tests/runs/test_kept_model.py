"""Weights that came to harm are made anew from the plan; a request or results of another run are refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from come import cli
from come.errors import ComeError
from come.runs import Run, delete, execute, find, list_runs
from come.runs.documents import CONFIG, PLAN, RESULTS, STATE
from come.runs.kept_model import changed_file, digests
from come.runs.materialize import model_in
from come.runs.push import preview
from tests.runs.conftest import Create

WEIGHTS = "model.safetensors"


@pytest.fixture
def run(new_run: Create) -> Run:
    made = new_run()
    execute(made)
    return made


def _zeroed(path: Path) -> None:
    """What a power cut leaves: the header, and nothing but zeros after it."""
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[:8], "little")
    path.write_bytes(data[:head] + bytes(len(data) - head))


def _shortened(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def _endless(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _waiting(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [_zeroed, _shortened, Path.unlink, _endless, _waiting])
def test_weights_that_came_to_harm_are_made_anew(run: Run, harm: Callable[[Path], None]) -> None:
    def handed_out() -> tuple[bytes, list[str]]:
        told: list[str] = []
        with model_in(run, ("float32",), told.append) as folder:
            return (folder / WEIGHTS).read_bytes(), told

    whole, told = handed_out()
    assert changed_file(run) == "" and told == []
    harm(run.path / "model" / WEIGHTS)
    assert changed_file(run) == WEIGHTS
    again, told = handed_out()
    assert again == whole and WEIGHTS in told[0] and "anew" in told[0]
    assert preview(run, "me/it", look_at_files=True).made_bytes > 0


def test_a_config_that_was_changed_is_told_of(run: Run) -> None:
    path = run.path / "model" / "config.json"
    path.write_text(path.read_text().replace('"rms_norm_eps": 1e-0', '"rms_norm_eps": 3e-0'))
    assert changed_file(run) == "config.json"
    (run.path / "model" / "README.md").write_text("My own words.")
    path.write_text(path.read_text().replace('"rms_norm_eps": 3e-0', '"rms_norm_eps": 1e-0'))
    assert changed_file(run) == ""


def test_a_folder_in_the_model_s_is_known_too(run: Run) -> None:
    templates = run.path / "model" / "additional_chat_templates"
    templates.mkdir()
    (templates / "tool.jinja").write_text("{{ messages }}")
    (run.path / "model" / "README.md").write_text("My own words.")
    known, more = run.results()["model_files"], digests(run.path / "model")
    assert more.keys() - known.keys() == {"additional_chat_templates/tool.jinja"} and known.items() < more.items()


@pytest.mark.parametrize("name", [CONFIG, RESULTS, PLAN])
def test_a_file_of_another_run_is_refused_by_name(run: Run, new_run: Create, name: str) -> None:
    other = new_run(method="shortgpt")
    execute(other)
    shutil.copy(other.path / name, run.path / name)
    with pytest.raises(ComeError, match=f"{name} is not this run's"):
        run.check()
    assert run.state().status == "unreadable" and other.readable


def test_a_run_without_its_request_stays_in_the_list_and_can_be_deleted(
    run: Run, new_run: Create, capfd: pytest.CaptureFixture[str]
) -> None:
    other = new_run()
    (run.path / CONFIG).unlink()
    assert {each.id for each in list_runs()} == {run.id, other.id}
    assert "config.json" in run.state().error and "not there" in run.state().error
    assert cli.main(["runs", "delete", run.id]) == 0
    assert run.id in "".join(capfd.readouterr())
    assert not run.path.exists() and other.path.exists()


def test_a_run_without_its_state_is_told_of(run: Run) -> None:
    (run.path / STATE).unlink()
    assert find(run.id).state().status == "unreadable"
    delete(run)
    assert not run.path.exists()
