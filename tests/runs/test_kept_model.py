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


@pytest.mark.slow
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


def _link(folder: Path) -> None:
    (folder / "secret.json").symlink_to("/etc/passwd")


def _more(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{% for i in range(10**9) %}{% endfor %}")


def _card_is(harm: Callable[[Path], object]) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "README.md").unlink()
        harm(folder / "README.md")

    return change


def _with_holes(folder: Path) -> None:
    os.truncate(folder / WEIGHTS, 1 << 40)


ADDED = {
    "a link": _link,
    "a file": _more,
    "a pipe as card": _card_is(os.mkfifo),
    "a link as card": _card_is(lambda card: card.symlink_to("/etc/passwd")),
    "a device as card": _card_is(lambda card: card.symlink_to("/dev/zero")),
    "no card": _card_is(lambda card: None),
    "a large card": _card_is(lambda card: card.write_bytes(bytes(2 << 20))),
    "a terabyte of holes": _with_holes,
}


@pytest.mark.parametrize("harm", ADDED.values(), ids=ADDED)
def test_what_was_not_saved_with_the_model_goes_nowhere(run: Run, harm: Callable[[Path], None]) -> None:
    before = {path.name for path in (run.path / "model").iterdir()}
    harm(run.path / "model")
    assert changed_file(run) != ""
    with model_in(run, ("float32",), lambda _: None) as folder:
        assert folder != run.path / "model" and {path.name for path in folder.iterdir()} == before
    assert not {"secret.json", "chat_template.jinja"} & preview(run, "me/it", look_at_files=True).files.keys()


def test_a_card_of_ones_own_is_kept(run: Run) -> None:
    (run.path / "model" / "README.md").write_text("My own words.")
    assert changed_file(run) == ""


def test_weights_that_are_lost_are_told_of_ahead(new_run: Create) -> None:
    run = new_run(method="come-joint", target_layers=4)
    execute(run)
    for path in run.path.rglob("weights-*.safetensors"):
        path.unlink()
    _shortened(run.path / "model" / WEIGHTS)
    with pytest.raises(ComeError, match="which are not beside it"):
        preview(run, "me/it", look_at_files=True)


def test_a_state_of_another_run_is_refused_by_name(run: Run, new_run: Create) -> None:
    other = new_run(method="shortgpt")
    execute(other)
    shutil.copy(other.path / STATE, run.path / STATE)
    with pytest.raises(ComeError, match=f"{STATE} is not this run's"):
        run.check()


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
