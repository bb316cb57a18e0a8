"""How far a run is: never done before it ends, never nothing left, and nearer to the truth the more it has told."""

from __future__ import annotations

from typing import Any

import pytest

from come.request import RunConfig
from come.runs.ahead import OVERDUE, UNDER_WAY, Outlook, outlook, together
from come.runs.state import State

CONFIG = RunConfig(model="m", text="t", method="come", target_layers=4, keep_model=False)
FORESEEN = {"start": 1.0, "load": 1.0, "text": 2.0, "compress": 40.0, "evaluate original": 8.0, "evaluate pruned": 8.0}
RUNNING = State(status="running", created=90.0, started=100.0)


def event(time: float, stage: str, step: int = 0, of: int = 1) -> dict[str, Any]:
    return {"time": time, "stage": stage, "step": step, "of": of, "message": ""}


LOADED = [event(101, "load"), event(102, "load", 1), event(102, "text"), event(104, "text", 1)]


def test_a_run_that_goes_as_foreseen_is_told_truly() -> None:
    events = [*LOADED, *(event(104 + 4 * step, "compress", step, 10) for step in range(1, 6))]
    seen = outlook(CONFIG, RUNNING, events, FORESEEN, now=124.0)
    assert seen.elapsed == 24 and seen.left == pytest.approx(36.0) and seen.share == pytest.approx(0.4)


def test_a_stage_that_has_told_all_is_not_the_end() -> None:
    events = [*LOADED, *(event(104 + 4 * step, "compress", step, 10) for step in range(1, 11))]
    seen = outlook(CONFIG, RUNNING, events, FORESEEN, now=159.0)
    assert seen.share < 0.8 and seen.left is not None and seen.left > 16


def test_what_takes_longer_than_foreseen_is_never_said_to_be_over() -> None:
    events = [*LOADED, event(144, "compress", 10, 10), event(145, "evaluate")]
    seen = [outlook(CONFIG, RUNNING, events, FORESEEN, now=now) for now in (150.0, 200.0, 400.0)]
    assert all(each.left is not None and each.left >= OVERDUE * 5 for each in seen)
    assert all(each.share <= UNDER_WAY for each in seen)
    assert seen[0].left < seen[2].left, "an overdue stage is expected to take the longer the longer it has taken"


def test_a_slow_machine_is_expected_to_stay_slow() -> None:
    slow = [*LOADED, *(event(104 + 12 * step, "compress", step, 10) for step in range(1, 6))]
    seen = outlook(CONFIG, RUNNING, slow, FORESEEN, now=164.0)
    assert seen.pace > 2 and seen.left > 60 + 20


def test_a_slow_run_never_goes_back_and_its_time_agrees_with_its_bar() -> None:
    """Thirteen times slower than foreseen, as on a busy machine."""
    events, clock = [*LOADED], 104.0
    for step in range(1, 27):
        clock += 20
        events.append(event(clock, "compress", 10 * step, 260))
    for which in ("original", "pruned"):
        for step in range(1, 21):
            clock += 5.2
            events.append(event(clock, "evaluate", step, 20) | {"message": f"Predictions of the {which} model"})
    end, shares = clock, [0.0]
    for now in range(100, int(end)):
        seen = outlook(CONFIG, RUNNING, [each for each in events if each["time"] <= now], FORESEEN, float(now))
        assert seen.share >= shares[-1] and seen.left is not None
        shares.append(seen.share)
        if now > 250:  # a fifth of it: by then it is known to be slow
            by_time = seen.elapsed / (seen.elapsed + seen.left)
            assert abs(seen.share - by_time) < 0.21 and not (seen.overdue and seen.share < by_time)
            assert seen.left == pytest.approx(end - now, rel=0.5, abs=30)
    per_minute = [later - earlier for earlier, later in zip(shares, shares[60:], strict=False)]
    assert min(per_minute) > 0.02, "the bar moves with the count"
    assert shares[-1] > 0.9


def test_the_second_models_count_is_a_stage_of_its_own() -> None:
    events = [*LOADED, event(144, "compress", 10, 10), event(144, "evaluate", 1, 2) | {"message": "of the original"}]
    pruned = [event(150 + step, "evaluate", step, 8) | {"message": "of the pruned"} for step in range(5)]
    seen = outlook(CONFIG, RUNNING, [*events, *pruned], FORESEEN, now=154.0)
    assert seen.left == pytest.approx(4, abs=1)


def test_what_was_known_already_is_no_speed() -> None:
    pruned = event(144, "evaluate", 0, 8) | {"message": "of the pruned"}
    seen = outlook(CONFIG, RUNNING, [*LOADED, event(144, "compress", 10, 10), pruned], FORESEEN, now=144.0)
    assert seen.pace == pytest.approx(1) and seen.left == pytest.approx(8)


def test_the_total_never_goes_back_and_knows_that_the_first_was_slow() -> None:
    state = State(status="done", created=90.0, started=0.0, finished=300.0)
    ended = outlook(CONFIG, state, [], FORESEEN, now=300.0)
    waits = State(status="queued", created=90.0)
    total = [
        together([Outlook(0.99, 300.0, 3.0, 5.0, 60.0), outlook(CONFIG, waits, [], FORESEEN, 300.0)], [False, True])
    ]
    total.append(together([ended, outlook(CONFIG, waits, [], FORESEEN, 300.0, 5.0)], [False, True]))
    running = outlook(CONFIG, RUNNING, LOADED[:1], FORESEEN, 101.0, 5.0)
    total.append(together([ended, running], [False, False]))
    assert [each.left for each in total] == pytest.approx([303, 300, 299], abs=6)
    assert total[0].share <= total[1].share == 0.5 <= total[2].share


def test_a_conversion_is_a_stage_of_its_own() -> None:
    foreseen = {"start": 1.0, "convert": 20.0, **FORESEEN}
    seen = outlook(CONFIG, RUNNING, [event(100, "convert")], foreseen, now=110.0)
    assert seen.left == pytest.approx(10 + sum(FORESEEN.values()))
    after = [event(100, "convert"), event(130, "convert", 1), event(130, "load"), event(132, "load", 1)]
    known = outlook(CONFIG, RUNNING, after, FORESEEN, now=133.0)  # foreseen anew, when it was done
    assert known.pace == 1 and known.left == pytest.approx(57, abs=1) and known.elapsed == 33


def test_a_run_that_waits_again_is_not_nearly_done() -> None:
    again = State(status="queued", stage="compress", step=88, of=100, created=90.0, started=100.0)
    assert outlook(CONFIG, again, LOADED, FORESEEN, now=200.0).share == 0


def test_without_a_speed_nothing_is_said_of_the_time() -> None:
    seen = outlook(CONFIG, RUNNING, LOADED, {}, now=104.0)
    assert seen.left is None and 0 < seen.share < 1


def test_runs_started_together_are_one_total() -> None:
    first = outlook(CONFIG, RUNNING, LOADED, FORESEEN, now=104.0)
    waits = outlook(CONFIG, State(status="queued", created=90.0), [], FORESEEN, now=104.0)
    ended = Outlook(1.0, 30.0, 0.0)
    total = together([ended, first, waits], [False, False, True])
    assert total.left == pytest.approx(first.left + 60) and total.elapsed == 34 and total.share < 0.5
    assert together([ended, ended], [False, False]).share == 1
