"""The trainer: its schedule, its batches, keeping the best, ending early, going on after a kill."""

from __future__ import annotations

import errno
import math
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from come.errors import ComeError
from come.options import parse_options
from come.training.checkpoint import open_folder, read_state
from come.training.trainer import TrainingStep, TrainOptions, batch_of, learning_rate, train


class Line:
    """y = 2 x, to be found from points; those that are held out lie on another line if one likes."""

    def __init__(self, slope: float = 0.0, held_out: float = 2.0) -> None:
        self.weight = nn.Parameter(torch.tensor([slope, slope]))
        self.parameters = {"weight": self.weight}
        self.sequences, self.seq_len = 10, 4
        self.points = torch.linspace(-1, 1, 10)
        self.wanted = held_out

    def gradients(self, sequences: Tensor) -> float:
        loss = (self.weight * self.points[sequences, None] - 2 * self.points[sequences, None]).square().mean()
        loss.backward()
        return float(loss.detach())

    @torch.no_grad()
    def held_out(self) -> float:
        return float((self.weight - self.wanted).square().mean())


def options(**changes: Any) -> TrainOptions:
    return TrainOptions(**{"lr": 0.1, "steps": 60, "batch_tokens": 8, "check_every": 5, **changes})


def test_it_finds_the_line() -> None:
    line, points = Line(), list[TrainingStep]()
    outcome = train(line, options(), report=points.append)
    assert outcome.best_loss < 1e-2 < outcome.start_loss == 4.0
    assert line.held_out() == outcome.best_loss
    assert [point.step for point in points] == list(range(1, 61))
    assert [point.step for point in points if point.held_out_loss is not None] == list(range(5, 61, 5))


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(step, 100, options(warmup=0.1)) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (step + 1) for step in range(10)])
    assert rates[10] == pytest.approx(0.1)
    assert rates[55] == pytest.approx(0.05)
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 1e-4


def test_every_sequence_comes_once_an_epoch() -> None:
    batches = [batch_of(step, 4, 10, seed=0).tolist() for step in range(5)]
    flat = [number for batch in batches for number in batch]
    assert sorted(flat[:10]) == sorted(flat[10:]) == list(range(10))
    assert flat[:10] != flat[10:]
    assert batches[0] != batch_of(0, 4, 10, seed=1).tolist()


def test_by_default_every_token_is_taken_once() -> None:
    assert train(Line(), options(steps=None)).steps == 5


def test_the_best_is_kept_and_never_worse_than_the_start() -> None:
    line = Line(slope=0.5, held_out=0.5)
    outcome = train(line, options())
    assert outcome.best_step == 0
    assert line.weight.tolist() == [0.5, 0.5]
    line = Line(held_out=1.0)  # on the way to 2
    outcome = train(line, options(check_every=1, lr=0.05))
    assert 0 < outcome.best_step < outcome.steps
    assert line.held_out() == outcome.best_loss < 0.01


def test_it_ends_where_it_gets_no_better() -> None:
    outcome = train(Line(slope=1.5, held_out=1.5 - 0.2), options(patience=2, lr=1e-2))
    assert outcome.step == 10 < outcome.steps
    assert "no better for 2 checks" in outcome.describe()


def test_a_learning_rate_that_diverges_is_said() -> None:
    line = Line(slope=1.9)
    outcome = train(line, options(lr=50.0, warmup=0.0))
    assert "diverged at step 5 with a learning rate of 50; the best was kept" in outcome.describe()
    assert line.weight.tolist() == pytest.approx([1.9, 1.9])

    class Infinite(Line):
        def gradients(self, sequences: Tensor) -> float:
            super().gradients(sequences)
            return math.nan

    outcome = train(Infinite(), options())
    assert (outcome.step, "diverged at step 1" in outcome.describe()) == (0, True)


def test_it_stops_when_told() -> None:
    calls: list[int] = []
    outcome = train(Line(), options(), stop=lambda: calls.append(1) or len(calls) > 20)  # type: ignore[func-returns-value]
    assert outcome.step == 20
    assert outcome.best_step == 20
    assert "stopped early" in outcome.describe()


def test_minutes_become_steps() -> None:
    outcome = train(Line(), options(minutes=0.01, steps=3))
    assert outcome.steps > 3
    assert outcome.step == outcome.steps


class Changing(Line):
    """A line whose points are others in every epoch."""

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds, self.epochs = seconds, list[int]()

    def renew(self, epoch: int) -> None:
        if epoch not in self.epochs[-1:]:
            time.sleep(self.seconds)
            self.epochs.append(epoch)


def test_sequences_that_are_renewed_are_all_taken_first() -> None:
    line = Changing()
    train(line, options(steps=12))  # five batches of two hold all ten
    assert line.epochs == [0, 1, 2]


def test_what_renewing_takes_is_part_of_the_minutes() -> None:
    outcome = train(Changing(seconds=0.02), options(minutes=0.01))
    assert 1 < outcome.steps <= 0.6 / (0.02 / 5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("at", [1, 7, 31, 60])
def test_a_killed_training_goes_on_to_the_same_bits(at: int, tmp_path: Path) -> None:
    whole = Line()
    expected = train(whole, options(weight_decay=0.1))

    def kill(point: TrainingStep) -> None:
        if point.step == at:
            raise Killed

    file = tmp_path / "training.safetensors"
    with pytest.raises(Killed):
        train(Line(), options(weight_decay=0.1, checkpoint_minutes=0), checkpoint=file, report=kill)
    resumed, steps = Line(), list[int]()
    outcome = train(
        resumed,
        options(weight_decay=0.1, checkpoint_minutes=0),
        checkpoint=file,
        report=lambda point: steps.append(point.step),
    )
    assert steps == list(range(at + 1, 61))
    assert torch.equal(resumed.weight, whole.weight)
    assert outcome == expected
    again = Line()
    assert train(again, options(), checkpoint=file, report=kill) == expected, "a finished one is only read"
    assert torch.equal(again.weight, whole.weight)
    assert list(tmp_path.iterdir()) == [file]
    kept = read_state(file)
    assert kept is not None
    assert set(kept[0]) == {"best.weight"}


def test_checkpoints_of_another_request_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    open_folder(folder, {"student": "a", "tokens": "b"})
    open_folder(folder, {"student": "a", "tokens": "b"})
    with pytest.raises(ComeError, match=r"another request \(another tokens\)"):
        open_folder(folder, {"student": "a", "tokens": "c"})
    with pytest.raises(ComeError, match="cannot be kept"):
        open_folder(folder / "request.json", {})


def test_a_request_that_a_full_disk_tore_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "request.json"
    write = Path.write_text

    def full(path: Path, text: str, **named: Any) -> int:
        write(path, text[:9], **named)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "write_text", full)
        with pytest.raises(ComeError, match="No space left"):
            open_folder(tmp_path, {"student": "a"})
    assert list(tmp_path.iterdir()) == []
    file.write_text('{"stud')  # an older version wrote it in place
    open_folder(tmp_path, {"student": "a"})
    with pytest.raises(ComeError, match="another request"):
        open_folder(tmp_path, {"student": "b"})


def test_a_request_that_somebody_altered_is_written_again(tmp_path: Path) -> None:
    file = tmp_path / "request.json"
    open_folder(tmp_path, {"student": "a", "tokens": "b"})
    written = file.read_text()
    file.write_text(written.replace('"b"', '"c"'))
    open_folder(tmp_path, {"student": "a", "tokens": "b"})
    assert file.read_text() == written
    file.write_text('{"student": "a", "tokens": "c"}')  # an older version wrote no checksum
    with pytest.raises(ComeError, match="another tokens"):
        open_folder(tmp_path, {"student": "a", "tokens": "b"})


@pytest.mark.parametrize(
    "changes",
    [
        {"lr": 0.0},
        {"steps": 0},
        {"minutes": -1},
        {"warmup": 2},
        {"clip": 0},
        {"patience": 0},
        {"weight_decay": -1},
        {"precision": "float8"},
        {"check_every": 0},
    ],
)
def test_options_that_make_no_sense(changes: dict[str, Any]) -> None:
    with pytest.raises(ComeError, match=f"The option {next(iter(changes))} of training cannot be"):
        parse_options(TrainOptions, changes, "training")
