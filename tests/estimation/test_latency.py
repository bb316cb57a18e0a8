"""A model timed by a clock that goes by the layers that are run: the table is exact, kept, and used again."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import come
from come.cli import main
from come.errors import ComeError
from come.estimation.latency import Latency, known_latency, latency, measure_latency
from come.export.gguf_write import write_gguf
from tests.ggufs import gguf_folder
from tests.tiny import tiny_bundle, tiny_folder

LAYER, REST = 0.25, 0.5  # seconds that a token takes; powers of two, so that sums are exact


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time of `come.speed`, which passes where a tiny Llama is run: by its layers, and once for the rest."""
    clock = SimpleNamespace(now=0.0, forwards=0)
    llama = type(tiny_bundle(layers=1).model)
    forward = llama.forward

    def timed(self: Any, *args: Any, **kwargs: Any) -> Any:
        clock.now += self.config.num_hidden_layers * LAYER + REST
        clock.forwards += 1
        return forward(self, *args, **kwargs)

    timed.__signature__ = importlib.import_module("inspect").signature(forward)  # type: ignore[attr-defined]
    monkeypatch.setattr(llama, "forward", timed)
    module = importlib.import_module("come.evaluate.speed")
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    for name, fewer in (("PROMPT_TOKENS", 8), ("NEW_TOKENS", 3)):
        monkeypatch.setattr(importlib.import_module("come.estimation.latency"), name, fewer)
    return clock


def test_the_table_and_its_line_are_exact(clock: SimpleNamespace) -> None:
    found = measure_latency(tiny_bundle(layers=6))
    assert found.seconds == pytest.approx({depth: depth * LAYER + REST for depth in (1, 3, 6)}, rel=1e-12)
    assert found.line == pytest.approx((LAYER, REST))
    assert [found.at(layers) for layers in range(1, 7)] == pytest.approx([n * LAYER + REST for n in range(1, 7)])
    assert found.speedup(2, 6) == pytest.approx(2.0)
    assert "250 ms a token and layer, 500 ms for the rest" in found.sentence


def test_a_measured_table_is_used_again(
    clock: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_folder(tmp_path, layers=4))
    facts = come.describe(model)
    assert known_latency(facts, "float32", "cpu") is None
    first, forwards = latency(model, device="cpu"), clock.forwards
    assert forwards > 0
    assert latency(model, "float32", "cpu") == first == known_latency(facts, "float32", "cpu")
    assert clock.forwards == forwards
    assert known_latency(facts, "bfloat16", "cpu") is None
    assert known_latency(come.describe(tiny_folder(tmp_path / "deeper", layers=5)), "float32", "cpu") is None
    assert latency(model, device="cpu", remeasure=True).seconds == first.seconds
    assert clock.forwards == 2 * forwards


def test_a_gguf_file_is_timed_once_though_it_is_converted_then(clock: SimpleNamespace, tmp_path: Path) -> None:
    path = write_gguf(gguf_folder(tmp_path, layers=2), tmp_path / "model.gguf", "float32")
    assert not come.describe(path).converted
    first, forwards = latency(str(path), "float32", "cpu"), clock.forwards
    assert come.describe(path).converted
    assert latency(str(path), "float32", "cpu") == first
    assert clock.forwards == forwards > 0


def test_a_damaged_table_is_measured_anew(clock: SimpleNamespace, tmp_path: Path) -> None:
    model = str(tiny_folder(tmp_path, layers=2))
    facts, first, table = come.describe(model), latency(model, device="cpu"), tmp_path / "home" / "latency.json"
    (key,) = json.loads(table.read_text())
    whole = {"seconds": {"2": 1.0}, "device": "cpu", "measured": 1.0}
    damages = [None, 3, {}, {**whole, "seconds": {"x": 1}}, {**whole, "seconds": {"2": 0}}, {**whole, "measured": 1e12}]
    for text in ("", "[]", "{", *(json.dumps({key: damage}) for damage in damages)):
        table.write_text(text)
        assert known_latency(facts, "float32", "cpu") is None
    assert latency(model, device="cpu").seconds == first.seconds
    assert known_latency(facts, "float32", "cpu") is not None


@pytest.mark.slow
def test_the_command_times_once_and_stores_the_layers(
    clock: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = str(tiny_folder(tmp_path, layers=6))  # 2 s a token, so 4 layers, 1.5 s, are 4/3 times as fast
    few = ("--method", "shortgpt", "--tokens", "256", "--seq-len", "32", "--evaluate", "none", "--device", "cpu")
    asked = ("run", "--model", model, "--speedup", "1.3", "--max-memory", "1GiB", *few)
    assert main([*asked, "--dry-run"]) == 0
    told, forwards = capsys.readouterr().out, clock.forwards
    assert "down to 4 layers" in told
    assert "the speed-up allows no more; the memory would allow all 6. Measured on cpu on 2" in told
    assert main([*asked, "--plan-only", "--json"]) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert (config["target_layers"], config["sparsity"]) == (4, None)
    assert config["asked"]["speedup"] == 1.3 and config["asked"]["expected"] == pytest.approx(4 / 3)
    assert clock.forwards == forwards  # the times were remembered
    assert main([*asked[:4], "30", *few]) == 2
    assert "No depth of" in capsys.readouterr().err
    assert main([*asked[:3], "--target-layers", "4", "--context", "64", *few]) == 2
    assert "--context goes with --max-memory." in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_is_of_the_size_that_fits(
    clock: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(tiny_folder(tmp_path, layers=6))
    few = ("--tokens", "256", "--seq-len", "32", "--evaluate", "none", "--device", "cpu", "--runs", str(tmp_path / "r"))
    asked = ("sweep", "--model", model, "--speedup", "1.3", *few, "--method")
    assert main([*asked, "shortgpt,reverse", "--json"]) == 0
    cells = [each["config"] for each in json.loads(capsys.readouterr().out)["runs"]]
    assert [(each["method"], each["target_layers"]) for each in cells] == [("shortgpt", 4), ("reverse", 4)]
    assert {each["asked"]["speedup"] for each in cells} == {1.3}
    for more, said in (
        (("shortgpt", "--target-layers", "4"), "stands alone"),
        (("shortgpt,fisher",), "keeps every layer"),
        ((",",), "needs a method"),
    ):
        assert main([*asked, *more]) == 2
        assert said in capsys.readouterr().err


@given(st.dictionaries(st.integers(1, 80), st.floats(1e-6, 100), min_size=1, max_size=5))
def test_whatever_was_measured_fewer_layers_are_not_slower(seconds: dict[int, float]) -> None:
    found = Latency(seconds, "a machine", 0.0)
    layer, rest = found.line
    assert layer >= 0 and rest >= 0 and found.at(1) > 0
    assert all(found.speedup(layers, 80) >= found.speedup(layers + 1, 80) >= 1 for layers in range(1, 80))


@pytest.mark.parametrize("seconds", [{}, {2: 0.0}, {2: -1.0}, {2: float("nan")}, {2: float("inf")}, {0: 1.0}])
def test_times_that_make_no_sense_are_refused(seconds: dict[int, float]) -> None:
    with pytest.raises(ComeError, match="make no sense"):
        Latency(seconds, "a machine", 0.0)
