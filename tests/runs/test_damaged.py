"""Runs of which any file is damaged in any way: a sentence, the other runs go on, and it can be deleted."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from come import cli
from come.errors import ComeError
from come.report import comparison
from come.request import RunConfig
from come.runs import Run, create, delete, execute, list_runs, reported, window_costs
from come.runs.run import PROCESS
from tests.runs.damage import INSTEAD, damaged_contents, put_instead
from tests.tiny import tiny_folder

KINDS = ("analysis", "compressed", "interrupted")
RECOVERY = {"steps": 6, "batch_tokens": 64, "checkpoint_minutes": 0, "check_every": 2}
# The files of each, of which those that pages and lists read are damaged in the fast tests.
EVERY = int(os.environ.get("DAMAGE_EVERY", "1"))  # of the ways to damage a file, one in so many
FAST = ("config.json", "state.json", "results.json", "events.jsonl", "plan.json")


class Killed(BaseException):
    """As sudden as a kill: nothing of the run's is written after it."""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of each kind, to be copied, and "good", which stays whole beside it."""
    place = tmp_path_factory.mktemp("damaged")
    model, text = tiny_folder(place, layers=6), place / "numbers.txt"
    text.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(2500)))
    before = {name: os.environ.get(name) for name in ("COME_HOME", "COME_RUNS")}
    os.environ |= {"COME_HOME": str(place / "home"), "COME_RUNS": str(place / "runs")}
    asked: dict[str, Any] = {"model": str(model), "text": str(text), "n_tokens": 512, "seq_len": 64}
    pruned = asked | {"method": "come", "target_layers": 4, "evaluation_tokens": 256, "recover_tokens": 1024}
    pruned |= {"recover": ["distill-mp"], "recover_options": RECOVERY}
    try:
        analysis = create(RunConfig(**asked, kind="analyze"))
        execute(analysis)
        window_costs.measure(analysis, [2], seconds=0)
        compressed, cut = create(RunConfig(**pruned)), create(RunConfig(**pruned, sweep="cut"))
        execute(compressed)
        _execute_until(cut, lambda event: event.stage == "recover" and event.values.get("step") == 3)
        good = create(RunConfig(**pruned | {"recover": [], "keep_model": False}))
        execute(good)
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    made = {"analysis": analysis, "compressed": compressed, "interrupted": cut, "good": good}
    for run in made.values():  # their process was this one, which would be ended with a run whose state is damaged
        gone = run.update(pid=2**30, process_start_id="gone 0", process_started=0.0)
        (run.path / PROCESS).write_text(gone.model_dump_json())
    return {name: run.path for name, run in made.items()} | {"home": place / "home"}


def _execute_until(run: Run, stop: Callable[[Any], bool]) -> None:
    def listen(event: Any) -> None:
        if stop(event):
            raise Killed

    with pytest.raises(Killed):
        execute(run, listen)


@pytest.fixture
def runs(templates: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir(exist_ok=True)
    shutil.copytree(templates["good"], folder / templates["good"].name)
    monkeypatch.setenv("COME_RUNS", str(folder))
    monkeypatch.setenv("COME_HOME", str(templates["home"]))
    return folder


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str]]:
    def run(*arguments: object) -> tuple[int, str]:
        status = cli.main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        for words in ("fault of ours", "Traceback", "Error:"):
            assert words not in out + err, f"{arguments}: {out} {err}"
        assert status in (0, 2), f"{arguments}: {out} {err}"
        return status, out + err

    return run


def files_of(folder: Path) -> list[str]:
    """The files of a run by their paths in it, but for the model's own, which are a matter of loading models."""
    own = [path for path in folder.rglob("*") if path.is_file() and path.parent.name != "model"]
    return sorted(str(path.relative_to(folder)) for path in own)


def copied(templates: dict[str, Path], kind: str, runs: Path) -> Run:
    target = runs / templates[kind].name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(templates[kind], target, symlinks=True)
    return Run(target)


def look(run: Run, command: Callable[..., tuple[int, str]], good: str) -> None:
    """All that lists and pages ask of runs, in this process."""
    status, listed = command("runs", "list", "--json")
    assert status == 0
    assert run.id in listed
    assert good in listed
    assert command("runs")[0] == 0
    for words in ((), ("--json",)):
        command("runs", "show", run.id, *words)
    known = list_runs()
    assert {each.id for each in known} == {run.id, good}
    named = {item.run.id for item in comparison.entries(known)}
    assert good in named
    comparison.groups(comparison.entries(known))
    state = run.state()
    assert bool(run.fault) == (state.status == "unreadable")
    if state.status == "unreadable":
        assert state.error.endswith(".")
        with pytest.raises(ComeError):
            run.check()
        assert run.id in named
    events = run.events()
    reported.messages(events), reported.series(events), reported.curves(events)
    reported.texts_read(run.results()), reported.tail(run.log())
    window_costs.read(run)
    for reading in (run.plan, run.measurement, lambda: run.config):
        try:
            reading()
        except ComeError as error:
            assert str(run.path) in str(error) or "holds no" in str(error)


def use(run: Run, command: Callable[..., tuple[int, str]], place: Path, resume: bool) -> None:
    """All that may be done with a run."""
    made = place / "made"
    if resume:
        status, told = command("runs", "execute", run.path)
        if status == 0:
            assert run.state().status == "done", told
    command("rebuild", run.path / "plan.json", "--out", made / "model")
    command("export", run.id, "--gguf", made / "model.gguf")
    shutil.rmtree(made, ignore_errors=True)
    command("runs", "cancel", run.id)


def dispose(run: Run, command: Callable[..., tuple[int, str]], good: str) -> None:
    assert command("runs", "delete", run.id)[0] == 0
    assert {each.id for each in list_runs()} == {good}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["compressed", "interrupted"])
@pytest.mark.parametrize("file", FAST)
def test_a_damaged_file_is_told_of_and_the_others_go_on(
    templates: dict[str, Path], runs: Path, command: Callable[..., tuple[int, str]], kind: str, file: str
) -> None:
    good, whole = templates["good"].name, (templates[kind] / file).read_bytes()
    for name, content in damaged_contents(whole, every=5 if kind == "compressed" else 11):  # the slow tests take all
        run = copied(templates, kind, runs)
        (run.path / file).write_bytes(content)
        print(kind, file, name)
        look(run, command, good)
        dispose(run, command, good)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "instead",
    [pytest.param(kind, marks=() if kind == "a FIFO" else [pytest.mark.slow, pytest.mark.attack]) for kind in INSTEAD],
)
@pytest.mark.parametrize("file", [*FAST, "log.txt", ".lock", ".hands", ".work", ".process", "checkpoint", "model"])
def test_what_is_no_file_hangs_nobody(
    templates: dict[str, Path], runs: Path, command: Callable[..., tuple[int, str]], file: str, instead: str
) -> None:
    run = copied(templates, "interrupted", runs)
    put_instead(run.path / file, instead)
    look(run, command, templates["good"].name)
    dispose(run, command, templates["good"].name)


@contextmanager
def as_nobody(folder: Path) -> Iterator[None]:
    """Within, this process is no superuser, who may look into everything; the folder is its own."""
    if os.geteuid():
        yield
        return
    for path in (folder, *folder.rglob("*")):
        os.chown(path, 65534, -1)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_directory_that_may_not_be_looked_into(templates: dict[str, Path]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "runs"
        for kind in ("good", "compressed"):
            shutil.copytree(templates[kind], folder / templates[kind].name)
        with as_nobody(Path(place)):
            shut = folder / templates["compressed"].name
            shut.chmod(0)
            known = {run.id: run for run in list_runs(folder)}
            assert set(known) == {shut.name, templates["good"].name}
            assert known[shut.name].state().status == "unreadable"
            state = known[shut.name].state()
            assert "may not read it" in state.error and state.hint == "Check its permissions."
            assert known[templates["good"].name].state().status == "done"
            assert {item.run.id for item in comparison.entries(list(known.values()))} == set(known)
            delete(known[shut.name])
            assert [run.id for run in list_runs(folder)] == [templates["good"].name]
            assert not [path for path in folder.iterdir() if path.name.startswith(".deleted")]


CASES = [
    (kind, file)
    for kind, files in {
        "analysis": (*FAST[:4], "analysis.safetensors", "window_costs.jsonl"),
        "compressed": (*FAST, "weights"),
        "interrupted": (*FAST, "checkpoint/request.json", "-layer-"),
    }.items()
    for file in files
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.attack
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("kind", "file"), CASES)
def test_every_file_may_be_damaged_in_every_way(
    templates: dict[str, Path],
    runs: Path,
    command: Callable[..., tuple[int, str]],
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
    kind: str,
    file: str,
) -> None:
    """Lists, show, resume, rebuild, export, cancel, delete; a damaged checkpoint is made anew, to the same end."""
    template = templates[kind]
    name = next(each for each in files_of(template) if file in each)
    good, whole, survived = templates["good"].name, (template / name).read_bytes(), 0
    for damage, content in damaged_contents(whole, EVERY, every_key=True):
        run = copied(templates, kind, runs)
        (run.path / name).write_bytes(content)
        print(kind, name, damage)
        look(run, command, good)
        use(run, command, tmp_path, resume=kind == "interrupted")
        if kind == "interrupted" and name.startswith("checkpoint/1"):
            assert run.state().status == "done", f"{damage}: {run.state()}"
            assert run.plan() == Run(templates["compressed"]).plan(), damage
        dispose(run, command, good)
        survived += 1
    for instead in INSTEAD:
        run = copied(templates, kind, runs)
        put_instead(run.path / name, instead)
        print(kind, name, instead)
        if (name, instead) != ("config.json", "nothing"):
            look(run, command, good)
            use(run, command, tmp_path, resume=kind == "interrupted")
            dispose(run, command, good)
        survived += 1
    assert survived >= 30 // EVERY
    with capfd.disabled():
        print(f"{survived} survived: {kind}, {name}", flush=True)
