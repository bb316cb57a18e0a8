"""What a tracker is told of a run; the trackers themselves are tried where they are installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from come import cli, tracking
from come.errors import ComeError
from come.request import RunConfig
from come.runs import Run, create, execute, list_runs
from come.tracking import TRACKERS, Tracked, track, tracked
from tests.tiny import tiny_folder


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run whose recovery told losses."""
    place = tmp_path_factory.mktemp("tracked")
    text = place / "numbers.txt"
    text.write_text("\n".join(f"{number} times {number} is {number * number}." for number in range(2500)))
    asked = {"model": str(tiny_folder(place, layers=6)), "text": str(text), "n_tokens": 512, "seq_len": 64}
    how = {"recover": ["logits"], "recover_options": {"steps": 3, "batch_tokens": 64, "check_every": 1}}
    sizes = {"target_layers": 4, "evaluation_tokens": 256, "recover_tokens": 1024}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COME_HOME", str(place / "home"))
        run = create(
            RunConfig.model_validate(asked | how | sizes | {"method": "shortgpt", "sweep": "three"}), place / "runs"
        )
        execute(run)
    return run


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))


def test_all_that_was_asked_reported_and_measured_is_told(executed: Run) -> None:
    told, results = tracked(executed), executed.results()
    assert (told.name, told.group) == (executed.id, "three")
    assert told.params["method"] == "shortgpt" and told.params["recover_options.steps"] == 3
    assert told.summary["pruned/perplexity"] == results["pruned"]["perplexity"]
    assert told.summary["seconds/recover"] == results["seconds"]["recover"]
    assert not any("losses" in name for name in told.summary)  # a list, of each sequence
    losses = [numbers["train_loss"] for _, numbers in told.points if "train_loss" in numbers]
    assert losses == [event["values"]["train_loss"] for event in executed.events() if "train_loss" in event["values"]]
    assert losses and told.started <= told.points[0][0] <= told.points[-1][0] <= told.finished


def test_what_cannot_be_told_is_one_sentence(executed: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ComeError, match="no tracker 'tensorboard'"):
        track(executed, "tensorboard")

    def refuses(told: Tracked, project: str) -> str:
        raise ConnectionError("api.example.org: no route\nmore of it")

    monkeypatch.setitem(TRACKERS, "json", refuses)  # a module that is there
    with pytest.raises(ComeError, match=f"json did not take the run {executed.id}: api.example.org: no route") as error:
        track(executed, "json")
    assert "more of it" not in str(error.value)
    waiting = create(executed.config.model_copy(update={"sweep": ""}), executed.path.parent)
    with pytest.raises(ComeError, match="is queued"):
        tracked(waiting)


def test_the_command_line_tells_of_each_run(
    executed: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[str, str]] = []

    def keeps(told: Tracked, project: str) -> str:
        print("a tracker that says much")
        seen.append((told.name, project))
        return "kept"

    monkeypatch.setitem(TRACKERS, "json", keeps)
    assert cli.main(["track", str(executed.path), "--to", "json", "--project", "layers"]) == 0
    assert capsys.readouterr().out == f"{executed.id}: kept\n" and seen == [(executed.id, "layers")]
    assert cli.main(["run", "--track", "json", "--background"]) == 2
    assert "come track" in capsys.readouterr().err
    assert cli.main(["sweep", "--method", "come", "--track", "nothing"]) == 2
    assert "no tracker 'nothing'" in capsys.readouterr().err and not Path("runs").exists()


def test_a_run_is_told_of_when_it_is_done(
    executed: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    seen: list[str] = []
    monkeypatch.setitem(TRACKERS, "json", lambda told, project: seen.append(told.name) or "kept")
    asked = executed.config
    words = [
        "--model",
        asked.model,
        "--text",
        asked.text,
        "--tokens",
        "512",
        "--seq-len",
        "64",
        "--evaluation-tokens",
        "256",
    ]
    assert cli.main(["run", *words, "--method", "shortgpt", "--target-layers", "5", "--track", "json"]) == 0
    (made,) = list_runs(tmp_path / "runs")
    assert seen == [made.id] and f"{made.id}: kept" in capsys.readouterr().out


def test_mlflow_has_it_once(executed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mlflow = pytest.importorskip("mlflow", reason="an extra: pip install mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'mlflow.db'}")
    track(executed, "mlflow")
    assert "there already" in track(executed, "mlflow")
    (kept,) = mlflow.search_runs(experiment_names=[tracking.PROJECT], output_format="list")
    told = tracked(executed)
    assert {name: kept.data.metrics[name] for name in told.summary} == told.summary
    assert kept.data.params == {name: str(value)[:500] for name, value in told.params.items()}
    history = mlflow.MlflowClient().get_metric_history(kept.info.run_id, "train_loss")
    assert [each.value for each in history] == [each["train_loss"] for _, each in told.points if "train_loss" in each]


def test_trackio_has_it(executed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    trackio = pytest.importorskip("trackio", reason="an extra: pip install trackio")
    project = f"come-{tmp_path.name}"
    track(executed, "trackio", project)
    (kept,) = trackio.Api().runs(project)
    assert kept.name == executed.id


def test_wandb_has_it(executed: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("wandb", reason="an extra: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    track(executed, "wandb")
    assert list(tmp_path.glob(f"wandb/offline-run-*-{executed.id}"))


def test_every_number_is_finite_and_a_float(executed: Run) -> None:
    told = dataclasses.asdict(tracked(executed))
    numbers = [*told["summary"].values(), *(value for _, each in told["points"] for value in each.values())]
    assert numbers and all(isinstance(value, float) for value in numbers)
