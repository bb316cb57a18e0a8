"""Fisher masks within a latency: the line through the times, the search, and the whole, each against a slow one."""

from __future__ import annotations

import itertools
import math
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import come
from come.errors import ComeError
from come.models.bundle import weights_hash
from come.plan.plan import Plan
from come.plan.steps import Mask
from come.pruning import sub_layer_latency
from come.pruning.gradients import mask_gradients
from come.pruning.mask_search import search_latency
from come.pruning.sub_layer_latency import Line, counts, fitted, latencies, sub_layers_of
from come.transforms.rebuild import replay
from tests.tiny import CASES, tiny_bundle, tiny_tokens

TOKENS = tiny_tokens(6, 16)
TABLES: dict[str, Any] = {
    "budget": "latency",
    "attention_seconds": [[1, 2e-3], [2, 2.2e-3], [4, 5e-3]],
    "ffn_seconds": [[8, 1e-3], [16, 1.1e-3], [32, 3e-3], [48, 5e-3]],
}
SIZES = (("attention_seconds", 4), ("ffn_seconds", 48))


def by_the_formula(times: list[float], threshold: int) -> tuple[float, Line]:
    """The squared error of the line with a threshold, and that line, where all numbers of units were measured."""
    constant = sum(times[:threshold]) / threshold
    over, under = 0.0, 0.0
    for more, each in enumerate(times[threshold:], start=1):
        over += more * (each - constant)
        under += more * more
    line = Line(threshold, constant, max(0.0, over / under) if under else 0.0)
    told = [constant] * threshold + [constant + line.slope * more for more in range(1, len(times) - threshold + 1)]
    return sum((one - other) ** 2 for one, other in zip(told, times, strict=True)), line


def test_the_line_of_least_error_is_found() -> None:
    draw = random.Random(0)
    for _ in range(30):
        times = [draw.uniform(1, 2) + 0.4 * max(0, units - draw.randint(1, 6)) for units in range(1, 9)]
        found = fitted(dict(enumerate(times, start=1)), 8)
        errors = [by_the_formula(times, threshold) for threshold in range(1, 9)]
        assert found == min(errors, key=lambda each: each[0])[1]


def test_a_line_with_a_step_is_found_from_a_few_times() -> None:
    truth = Line(6, 3.0, 0.5)
    assert fitted({units: truth.at(units) for units in (1, 4, 6, 10, 16)}, 16) == truth
    assert [truth.at(units) for units in (0, 1, 6, 8)] == [0.0, 3.0, 3.0, 4.0]
    assert fitted({4: 2.0}, 8) == Line(4, 2.0, 0.0)


def slow_search(importance: list[Tensor], lines: list[Line], budget: float) -> float:
    """The most importance that is kept: every number of sub-layers that go, of groups and of channels, by loops."""
    best = -math.inf
    layers = len(importance[0])
    for gone in itertools.product(range(layers), repeat=2):
        base, rest, fixed = [], [], 0.0
        for values, line, count in zip(importance, lines, gone, strict=True):
            rows = [sorted(row.tolist(), reverse=True) for row in values]
            rows.sort(key=lambda row, line=line: sum(row[: line.threshold]))  # type: ignore[misc]
            stay = rows[count:]
            base.append(sum(sum(row[: line.threshold]) for row in stay))
            rest.append(sorted((each for row in stay for each in row[line.threshold :]), reverse=True))
            fixed += len(stay) * line.constant
        for groups in range(len(rest[0]) + 1):
            for channels in range(len(rest[1]) + 1):
                if fixed + groups * lines[0].slope + channels * lines[1].slope <= budget + 1e-9:
                    best = max(best, sum(base) + sum(rest[0][:groups]) + sum(rest[1][:channels]))
    return best


def kept_by(found: list[Any], importance: list[Tensor], lines: list[Line]) -> tuple[float, float]:
    """The importance and the seconds of what is left."""
    worth = seconds = 0.0
    for silenced, values, line in zip(found, importance, lines, strict=True):
        for layer, row in enumerate(values):
            left = [unit for unit in range(len(row)) if unit not in silenced.get(layer, [])]
            worth += float(row[left].sum())
            seconds += line.at(len(left))
    return worth, seconds


@pytest.mark.parametrize("seed", range(6))
def test_the_search_keeps_what_loops_over_everything_keep(seed: int) -> None:
    draw = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    importance = [torch.rand(3, units, generator=generator).pow(4).double() for units in (3, 5)]
    lines = [Line(draw.randint(1, 2), 1.0, 0.5), Line(draw.randint(1, 4), 0.75, draw.choice([0.0, 0.25]))]
    for budget in (1.75, 2.5, 3.25, 5.0, 7.5):
        found = search_latency(importance, lines, budget)
        worth, seconds = kept_by(found, importance, lines)
        assert worth == pytest.approx(slow_search(importance, lines, budget))
        assert seconds <= budget + 1e-9


@pytest.mark.parametrize("seed", range(3))
def test_without_a_step_no_choice_of_units_is_better(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    importance = [torch.rand(2, units, generator=generator).double() for units in (2, 3)]
    lines = [Line(1, 1.0, 1.0), Line(1, 0.5, 0.5)]
    flat = torch.cat([each.flatten() for each in importance]).tolist()
    prices = [1.0] * 4 + [0.5] * 6
    for budget in (2.0, 3.5, 5.0):
        best = max(
            sum(itertools.compress(flat, chosen))
            for chosen in itertools.product((0, 1), repeat=10)
            if sum(itertools.compress(prices, chosen)) <= budget and any(chosen[:4]) and any(chosen[4:])
        )
        assert kept_by(search_latency(importance, lines, budget), importance, lines)[0] == pytest.approx(best)


def test_a_model_is_masked_within_the_time_of_fewer_layers(tmp_path: Path) -> None:
    bundle = tiny_bundle()
    plans: list[Plan] = []
    result = come.compress(bundle, TOKENS, "fisher", target_layers=3, on_step=plans.append, **TABLES)
    step = result.plan.steps[0]
    assert isinstance(step, Mask)
    importance = [each.square().mean(0) for each in mask_gradients(bundle, TOKENS)]
    lines = [fitted({int(units): each for units, each in TABLES[name]}, most) for name, most in SIZES]
    budget = 3 * (lines[0].at(4) + lines[1].at(48))
    _, seconds = kept_by([step.kv_groups, step.channels], importance, lines)
    assert seconds <= budget * (1 + 1e-9)
    searched = come.compress(bundle, TOKENS, "fisher", target_layers=3, rearrange=False, tune=False, **TABLES)
    plain = searched.plan.steps[0]
    assert isinstance(plain, Mask)
    assert kept_by([plain.kv_groups, plain.channels], importance, lines)[0] == pytest.approx(
        slow_search([each.double() for each in importance], lines, budget), rel=1e-6
    )
    for one, other in ((plain.kv_groups, step.kv_groups), (plain.channels, step.channels)):
        assert {layer: len(units) for layer, units in one.items()} == {
            layer: len(each) for layer, each in other.items()
        }
    assert f"take {1000 * seconds:.4g} ms" in result.plan.notes[0]
    assert "is not faster" in result.plan.notes[0]
    whole = sum(each.numel() for each in result.bundle.model.parameters())
    assert result.bundle.parameters == whole - step.parameters
    plans[0].write(tmp_path / "plan.json")
    resumed = come.compress(bundle, TOKENS, "fisher", target_layers=3, done=Plan.read(tmp_path / "plan.json"), **TABLES)
    assert weights_hash(resumed.bundle.model) == weights_hash(result.bundle.model)
    assert weights_hash(replay(bundle, result.plan).model) == weights_hash(result.bundle.model)


def test_times_are_taken_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    bundle, asked = tiny_bundle(), list[list[int]]()
    timed = sub_layer_latency._timed

    def watched(sizes: list[int], made: Any) -> Any:
        asked.append(sizes)
        return timed(sizes, made)

    monkeypatch.setattr(sub_layer_latency, "_timed", watched)
    first = latencies(bundle, 8)
    assert asked == [[1, 2, 3, 4], [1, 3, 6, 12, 18, 24, 30, 36, 42, 48]]
    assert list(map(list, first)) == asked
    assert all(seconds > 0 for table in first for seconds in table.values())
    assert latencies(bundle, 8) == first
    assert len(asked) == 2
    latencies(bundle, 4)
    assert len(asked) == 4, "another number of tokens is another table"
    (tmp_path / sub_layer_latency.FILE).write_text("[]")
    latencies(bundle, 8)
    assert len(asked) == 6, "a damaged table is measured anew"
    result = come.compress(bundle, TOKENS, "fisher", target_layers=4, budget="latency", timed_tokens=8, tune=False)
    assert len(asked) == 6
    assert "measured here over 8 tokens" in result.plan.notes[0]


@pytest.mark.parametrize("family", CASES)
def test_the_sizes_are_those_of_the_family(family: str) -> None:
    bundle = tiny_bundle(family)
    sizes = sub_layers_of(bundle)
    like = next(bundle.layers[0].parameters())
    family_ = bundle.family
    for made, units, output in (
        (sub_layer_latency._attention, sizes.kv_heads, family_.attention_output),
        (sub_layer_latency._ffn, sizes.channels, family_.ffn_output),
    ):
        assert made(sizes, units, 5, like)().shape == (1, 5, sizes.hidden_size)
        width = sizes.kv_heads * sizes.queries * sizes.head_dim if units == sizes.kv_heads else sizes.channels
        assert family_.matrix(bundle.layers[0], output).shape == (sizes.hidden_size, width)
    rows = sum(family_.matrix(bundle.layers[0], path).shape[0] for path in family_.ffn_paths[:-1])
    assert rows == sizes.inputs * sizes.channels


def test_about_ten_sizes_are_tried() -> None:
    assert counts(1) == [1]
    assert counts(1536)[0] == 1
    assert counts(1536)[-1] == 1536
    assert len(counts(1536)) == 10


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ffn_seconds": [[1, 1.0]], "budget": "latency"}, "for the attention and the FFN"),
        ({**TABLES, "budget": "parameters"}, "for a budget of latency"),
        ({**TABLES, "ffn_seconds": [[1, 1.0], [1, 2.0]]}, "each number of units once"),
        ({**TABLES, "ffn_seconds": []}, "each number of units once"),
        ({**TABLES, "ffn_seconds": [[1, 2.0], [2, 1.0]]}, "more units take no less"),
        ({**TABLES, "ffn_seconds": [[49, 1.0]]}, "more FFN channels than the 48"),
        ({**TABLES, "ffn_seconds": [[1, 0.0]]}, "ffn_seconds of fisher"),
        ({**TABLES, "ffn_seconds": [[1]]}, "ffn_seconds of fisher"),
    ],
)
def test_times_that_make_no_sense_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        come.compress(tiny_bundle(), TOKENS, "fisher", target_layers=3, **options)
