from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from come.errors import ComeError
from come.estimation.device import Device, known_device
from come.events import Event
from come.models import Bundle, load
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.runs import Run, RunFault, cancel, execute, pipeline, reference_cache, shared
from tests.runs.conftest import Create


def test_a_run_leaves_everything_in_its_directory(new_run: Create) -> None:
    run = new_run()
    seen: list[Event] = []
    execute(run, seen.append)

    state = run.state()
    assert (state.status, state.stage, state.error) == ("done", "done", "")
    assert state.started is not None and state.finished is not None and state.finished >= state.started
    assert [{**event.to_dict(), "time": line["time"]} for event, line in zip(seen, run.events(), strict=True)] == [
        {**line, "values": event.values} for event, line in zip(seen, run.events(), strict=True)
    ]

    read = [event.message for event in seen if event.stage == "text" and event.step == 0]
    assert [message.partition(" for ")[2] for message in read if message.startswith("Reading")] == [
        "calibration",
        "judging",
    ]

    plan, results = run.plan(), run.results()
    assert plan is not None
    assert (plan.base.layers, plan.layers) == (6, 4)
    assert [results[which]["layers"] for which in ("original", "pruned")] == [6, 4]
    assert results["pruned"]["parameters"] < results["original"]["parameters"]
    assert results["pruned"]["perplexity"] > 0 and results["pruned"]["perplexity_stderr"] > 0
    assert [tuple(record["window"]) for record in results["history"]] == [step.window for step in plan.steps]
    assert results["calibration"]["text_hash"] == results["evaluation"]["text_hash"]
    assert {"load", "text", "compress", "evaluate original", "evaluate pruned", "save"} == set(results["seconds"])
    assert results["versions"]["torch"]

    saved = load(run.path / results["model_folder"])
    assert len(saved.layers) == 4
    assert Plan.read(run.path / "model" / "plan.json") == plan
    assert f"{results['pruned']['perplexity']:.2f}" in (run.path / "model" / "README.md").read_text()
    with pytest.raises(ComeError, match="is done"):
        execute(run)


def test_an_analysis(new_run: Create) -> None:
    run = new_run(kind="analyze", target_layers=None, span=3)
    execute(run)
    measurement = run.measurement()
    assert measurement is not None
    assert set(measurement.similarity) == {"cosine", "angular", "cka"}
    assert measurement.span == 3
    assert run.results()["original"]["layers"] == 6
    assert run.plan() is None


def test_only_the_plan_is_kept_where_that_was_asked(new_run: Create) -> None:
    run = new_run(keep_model=False, evaluate=[], method="shortgpt")
    execute(run)
    assert not (run.path / "model").exists()
    assert run.results()["model_folder"] is None
    assert "perplexity" not in run.results()["pruned"]
    assert run.results()["pruned"]["layers"] == 4


def test_the_original_is_run_once_for_all_runs(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []
    measured = reference_cache.reference
    monkeypatch.setattr(
        reference_cache,
        "reference",
        lambda bundle, tokens, **named: (told.append(tokens.shape), measured(bundle, tokens, **named))[1],
    )
    first, second, other = new_run(), new_run(method="shortgpt"), new_run(evaluation_tokens=128)
    for run in (first, second, other):
        execute(run)
    assert told == [(4, 64), (2, 64)]
    assert first.results()["original"] == second.results()["original"] != other.results()["original"]
    # What was kept compares as what was just measured does.
    anew = new_run(method="shortgpt", batch_size=4)
    execute(anew)
    assert len(told) == 3
    for figure in ("perplexity", "kl", "bits_per_byte"):
        assert anew.results()["pruned"][figure] == pytest.approx(second.results()["pruned"][figure], rel=1e-5)


def _after_first_step(run: Run, act: Callable[[], None]) -> Callable[[Event], None]:
    """A progress callback that acts once, when a first step is in the run's plan."""
    acted: list[bool] = []

    def listen(_: Event) -> None:
        if (run.path / "plan.json").exists() and not acted:
            acted.append(True)
            act()

    return listen


def test_a_cancelled_run_goes_on_to_the_same_end(new_run: Create) -> None:
    whole, cut = new_run(target_layers=2), new_run(target_layers=2)
    execute(whole)
    with pytest.raises(KeyboardInterrupt):
        execute(cut, _after_first_step(cut, (cut.path / "cancel").touch))
    assert cut.state().status == "cancelled"
    plan = cut.plan()
    assert plan is not None and len(plan.steps) == 1
    with (cut.path / "events.jsonl").open("a") as file:
        file.write('{"stage": "comp')  # as a killed writer leaves it
    (cut.path / ".model-half").mkdir()

    execute(cut)
    assert cut.state().status == "done"
    assert cut.plan() == whole.plan()
    assert [event["stage"] for event in cut.events()].count("resumed") == 1
    histories = [[record["window"] for record in run.results()["history"]] for run in (cut, whole)]
    assert histories[0] == histories[1]
    assert weights_hash(load(cut.path / "model").model) == weights_hash(load(whole.path / "model").model)
    assert not list(cut.path.glob(".model-*"))


@pytest.mark.slow
def test_what_lies_there_is_not_done_again(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()

    def no_disk(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "save", no_disk)
        with pytest.raises(ComeError, match="is full"):
            execute(run)
    state, results = run.state(), run.results()
    assert (state.status, "is full" in state.error, "Free some space" in state.hint) == ("failed", True, True)
    monkeypatch.setattr(reference_cache, "reference", lambda *_, **__: pytest.fail("measured again"))
    execute(run)
    assert run.state().status == "done"
    assert run.state().error == ""
    assert run.results()["pruned"] == results["pruned"]
    assert run.results()["history"] == results["history"]
    assert (run.path / "model" / "config.json").exists()


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("can't allocate memory: you")]
)
def test_too_little_memory_is_told_with_what_to_lower(
    error: Exception, new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = new_run()

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(pipeline, "compress", fail)
    with pytest.raises(ComeError, match=r"memory did not suffice in the stage 'compress' .*batch size"):
        execute(run)
    assert run.state().status == "failed"


@pytest.mark.slow
def test_too_little_memory_in_a_step_keeps_the_steps_before_it(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = new_run(target_layers=2), new_run(target_layers=2)
    full = RuntimeError("CUDA out of memory. Tried")

    def fail() -> None:
        raise full

    with pytest.raises(ComeError, match=r"\(Step 2 of 4: .*The 1 steps before it are kept"):
        execute(run, _after_first_step(run, fail))
    assert run.state().status == "failed"
    execute(run)
    execute(whole)
    assert run.plan() == whole.plan()


def test_a_fault_of_ours_leaves_its_traceback_in_the_log(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    monkeypatch.setattr(pipeline, "compress", lambda *_, **__: 1 / 0)
    with pytest.raises(RunFault, match="fault of ours"):
        execute(run)
    state = run.state()
    assert state.status == "failed"
    assert "log.txt" in state.hint and "\n" not in state.error + state.hint
    assert "ZeroDivisionError: division by zero" in run.log()


def test_a_fault_of_the_users_is_in_the_state(new_run: Create, tmp_path: Path) -> None:
    path = tmp_path / "short.txt"
    path.write_text("Too short.")
    run = new_run(text=str(path))
    with pytest.raises(ComeError) as raised:
        execute(run)
    assert (run.state().status, run.state().error) == ("failed", raised.value.what)


@pytest.mark.parametrize(
    "too_many", [{"recover": ["refit"], "recover_tokens": 10**6}, {"evaluate": ["ppl"], "evaluation_tokens": 10**6}]
)
def test_a_text_that_is_too_short_is_told_of_before_the_work(new_run: Create, too_many: dict[str, Any]) -> None:
    run = new_run(**too_many)
    with pytest.raises(ComeError, match="Ask for at most"):
        execute(run)
    assert not (run.path / "plan.json").exists()
    assert "unrecovered" not in run.results()


def test_the_device_is_measured_before_the_model_lies_on_it(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    speeds = [2e9, 3e9, 1e9]

    def measured(dtype: str, seconds: float, device: str) -> Device:
        order.append(f"measured in {dtype}")
        return Device("a machine", {dtype: speeds[order.count(order[0]) - 1]}, 1e9, 10**9)

    def loaded(*args: Any) -> Bundle:
        order.append("loaded")
        return load(*args)

    monkeypatch.setattr(pipeline, "measure_device", measured)
    monkeypatch.setattr(shared, "load", loaded)
    execute(new_run(keep_model=False))
    assert order == ["measured in float32", "loaded"]
    for seed in (1, 2):
        execute(new_run(keep_model=False, seed=seed))
    known = known_device("float32")
    assert known is not None and known.linear_speed("float32") == 3e9, "the quickest that it ever was"


@pytest.mark.parametrize(("asked_for", "words"), [("recover", "cannot be recovered"), ("save", "own dtype only")])
def test_what_a_model_outside_of_memory_does_not_allow_is_told_before_the_work(
    new_run: Create, model: Path, monkeypatch: pytest.MonkeyPatch, asked_for: str, words: str
) -> None:
    def outside(*_: Any) -> Bundle:
        return load(model, "balanced", max_memory={"cpu": "60KB"})

    monkeypatch.setattr(shared, "load", outside)
    run = new_run(
        **{"recover": {"recover": ["refit"], "recover_tokens": 512}, "save": {"save_dtype": "bfloat16"}}[asked_for]
    )
    with pytest.raises(ComeError, match=words):
        execute(run)
    assert "compress" not in run.results().get("seconds", {})


@pytest.mark.slow
def test_a_run_waits_for_the_one_that_executes(new_run: Create) -> None:
    first, second = new_run(), new_run()
    waited = threading.Event()
    order: list[str] = []

    def run_second() -> None:
        execute(second, lambda event: waited.set() if event.stage == "queue" else order.append("second"))

    thread = threading.Thread(target=run_second)

    def while_first_works() -> None:
        thread.start()
        assert waited.wait(60)
        assert second.state().status == "queued"
        assert "Waiting" in second.state().message
        order.append("first")

    execute(first, _after_first_step(first, while_first_works))
    thread.join()
    assert order[0] == "first" and "second" in order
    assert second.state().status == "done"


def test_a_run_that_nobody_works_on_is_cancelled_at_once(new_run: Create) -> None:
    run = new_run()
    cancel(run)
    assert run.state().status == "cancelled"
    with pytest.raises(ComeError, match="nothing to cancel"):
        cancel(run)
    execute(run)
    assert run.state().status == "done"


def test_the_heart_beats_while_nothing_is_reported(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run(evaluate=[], keep_model=False)
    beats: list[float | None] = []

    def wait_for_a_beat() -> None:
        beats.append(run.state().heartbeat)
        deadline = time.monotonic() + 60
        while run.state().heartbeat == beats[0] and time.monotonic() < deadline:
            time.sleep(0.05)
        beats.append(run.state().heartbeat)

    monkeypatch.setattr("come.runs.progress.BEAT", 0.1)
    execute(run, _after_first_step(run, wait_for_a_beat))
    assert beats[0] is not None and beats[1] is not None and beats[1] > beats[0]
