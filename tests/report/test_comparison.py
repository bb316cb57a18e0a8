"""Which runs compare, what is taken of their results.json, and what each is called."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from come.report import comparison, measured, metrics
from come.request import RunConfig
from come.runs import Run, list_runs
from tests.app import synthetic


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def change(run: Run, **fields: object) -> Run:
    """Write other fields into a run's request."""
    config = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(config | fields))
    return Run(run.path)


def test_everything_measured_is_taken(runs: Path) -> None:
    run = synthetic.sweep(runs, ["come"], [24])[0]
    item = comparison.entry(run)
    assert item is not None and item.pruned is not None and item.original is not None
    written, found = run.results(), item.pruned.values
    assert found["perplexity"] == measured.Value(
        written["pruned"]["perplexity"], written["pruned"]["perplexity_stderr"]
    )
    assert found["kl"].value == written["pruned"]["kl"]
    accuracies = [task["acc"] for task in written["pruned"]["accuracy"].values()]
    assert found["accuracy"].value == pytest.approx(sum(accuracies) / 4)
    assert found["accuracy"].stderr == pytest.approx(0.035 / 2)
    assert found["accuracy"].chance == pytest.approx((0.5 + 3 * 0.25) / 4)
    assert found["accuracy/cloze_facts"].chance == 0.25
    assert found["retention"].value == written["pruned"]["retention"]["mean"]["value"]
    before, after = (written[side]["speed"]["decode_tokens_per_second"] for side in ("original", "pruned"))
    assert found["decode"].value == pytest.approx(after / before)
    assert found["decode"].quartiles == pytest.approx((0.98 * after / before, 1.03 * after / before))
    assert "decode" not in item.original.values and "kl" not in item.original.values
    assert item.pruned.removed == pytest.approx(6 * synthetic.A_LAYER / synthetic.PARAMETERS)


def test_what_was_not_measured_is_not_there() -> None:
    side = {
        "parameters": 5,
        "perplexity": math.nan,
        "perplexity_stderr": 1.0,
        "kl": None,
        "accuracy": {"x": {"f1": 0.5}},
    }
    assert measured.values(side, {}) == {}
    assert measured.values({"retention": {"mean": {}}, "speed": None}, {}) == {}
    assert "prefill" not in measured.values({"speed": {"prefill_tokens_per_second": 5.0}}, {})


def test_metrics_are_offered_where_one_run_has_them(runs: Path) -> None:
    items = [comparison.entry(run) for run in synthetic.sweep(runs, ["come"], [24], measure=("ppl",))]
    keys = [metric.key for metric in metrics.measured([item.pruned for item in items if item and item.pruned])]
    assert keys == ["perplexity", "bits_per_byte", "kl", "weights"]
    whole = comparison.entry(synthetic.sweep(runs / "more", ["come"], [24])[0])
    assert whole is not None and whole.pruned is not None
    offered = [metric.key for metric in metrics.measured([whole.pruned]) if metric.drawn]
    assert offered[:5] == ["perplexity", "bits_per_byte", "kl", "accuracy", "retention"]
    assert offered[5:9] == ["prefill", "decode", "weights", "peak_memory"]
    assert "accuracy/cloze_facts" in offered and "retention/cloze_facts" in offered
    assert metrics.metric("accuracy/cloze_facts").title == "Accuracy: cloze facts"


def test_a_method_that_keeps_its_layers_stands_at_its_target(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_leaves_fewer", lambda method: method != "fisher")
    item = comparison.entry(synthetic.sweep(runs, ["fisher"], [24])[0])
    assert item is not None and item.pruned is not None
    assert item.pruned.layers == 24 and item.pruned.keeps_layers
    assert item.name == "fisher, 24 layers' size" or item.name.endswith("24 layers' size")


def test_a_run_that_evaluated_nothing_says_so(runs: Path) -> None:
    item = comparison.entry(synthetic.sweep(runs, ["come"], [24], measure=())[0])
    assert item is not None and item.pruned is None and item.reason == "nothing was evaluated"


def test_a_run_may_have_been_asked_for_accuracy_alone(runs: Path) -> None:
    run = change(synthetic.sweep(runs, ["come"], [24], measure=("acc",))[0], evaluate=["acc"])
    item = comparison.entry(run)
    assert item is not None and item.pruned is not None and item.title.endswith("no text")


def test_a_failed_run_says_why(runs: Path) -> None:
    run = synthetic.write(runs, "1", {}, "come", 24, status="failed")
    run.update(error="The disk is full.")
    item = comparison.entry(run)
    assert item is not None and item.reason == "failed: The disk is full."


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "CoMe"),
        ({"exponent": 1.0, "batch_size": 4}, "CoMe"),
        ({"exponent": 2.0}, "CoMe (exponent 2.0)"),
        ({"no_repeat": False}, "CoMe (repeat)"),
        ({"windows": [[4, 5], [9, 11]]}, "CoMe, windows by hand"),
        ({"windows": [[4, 5]], "exponent": 2.0}, "CoMe, windows by hand (exponent 2.0)"),
    ],
)
def test_a_series_is_named_by_what_is_not_usual(options: dict, name: str) -> None:
    assert comparison.series(RunConfig(method="come", options=options)) == name


def told(run: Run, **results: object) -> None:
    """Write more into a run's results."""
    (run.path / "results.json").write_text(json.dumps(run.results() | results))


def test_runs_judged_with_and_without_bos_do_not_compare(runs: Path) -> None:
    made = synthetic.sweep(runs, ["come"], [27, 24, 21])
    for run, bos in ((made[0], "<s>"), (made[1], None)):
        told(run, evaluation=run.results()["evaluation"] | {"bos": bos}, calibration={"bos": bos})
    items = [item for item in map(comparison.entry, map(Run, (run.path for run in made))) if item]
    groups = comparison.groups(items)
    assert sorted(len(group) for group in groups.values()) == [1, 2], "what tells nothing of it had none"
    assert [item.title.endswith(" with BOS") for item in items] == [True, False, False]


def test_runs_calibrated_with_bos_are_a_series_of_their_own(runs: Path) -> None:
    made = synthetic.sweep(runs, ["come"], [27, 24, 21])
    told(made[0], calibration={"bos": "<s>"})
    items = [item for item in map(comparison.entry, map(Run, (run.path for run in made))) if item]
    (group,) = comparison.groups(items).values()
    series = [item.pruned.series for item in group if item.pruned]
    assert series == ["CoMe, on python-docs with BOS", "CoMe", "CoMe"]


def test_runs_calibrated_otherwise_are_a_series_of_their_own(runs: Path) -> None:
    made = synthetic.sweep(runs, ["come"], [27, 24, 21])
    change(made[0], n_tokens=8192)
    items = [item for item in map(comparison.entry, map(Run, (run.path for run in made))) if item]
    (group,) = comparison.groups(items).values()
    assert [item.pruned.series for item in group if item.pruned] == [
        "CoMe, 8,192 tokens",
        "CoMe",
        "CoMe",
    ]


def test_plans_by_hand_are_named_and_told_apart(runs: Path) -> None:
    for number, windows in enumerate(([[4, 6]], [[9, 11]], [[9, 11]])):
        figures = synthetic.results_of("come", 28, number, ("ppl",))
        synthetic.write(runs, f"{number:04}", figures, "come", None, options={"windows": windows}, seed=number)
    synthetic.write(runs, "0009", synthetic.results_of("come", 28, 0, ("ppl",)), "come", 28)
    found = list_runs(runs)
    (items,) = comparison.groups(comparison.entries(found)).values()
    assert sorted(item.pruned.series for item in items if item.pruned) == [
        "CoMe",
        "CoMe, windows by hand, 4–6",
        "CoMe, windows by hand, 9–11",
        "CoMe, windows by hand, 9–11",
    ]
    assert {comparison.run_name(run) for run in found} == {"CoMe, 28 layers", "CoMe, windows by hand, 28 layers"}
    (fewer,) = comparison.groups(comparison.entries([run for run in found if "0000" not in run.id])).values()
    assert {item.pruned.series for item in fewer if item.pruned} == {"CoMe", "CoMe, windows by hand"}


def test_windows_by_measured_cost_are_called_so(runs: Path) -> None:
    """Sizes are one line, as costs chose at each."""
    for layers, windows in ((28, [[4, 6]]), (24, [[9, 15]])):
        figures = synthetic.results_of("come-joint", layers, 0, ("ppl",))
        run = synthetic.write(runs, f"{layers}", figures, "come-joint", None, options={"windows": windows})
        change(run, windows_by_cost=True)
    figures = synthetic.results_of("come-joint", 27, 0, ("ppl",))
    synthetic.write(runs, "27", figures, "come-joint", None, options={"windows": [[5, 8]]})
    found = list_runs(runs)
    (items,) = comparison.groups(comparison.entries(found)).values()
    series = [item.pruned.series for item in items if item.pruned]
    assert sorted(series) == ["CoMe-Joint, windows by hand", *2 * ["CoMe-Joint, windows by measured cost"]]
    assert "CoMe-Joint, windows by measured cost, 24 layers" in {comparison.run_name(run) for run in found}


def test_what_was_measured_on_each_is_taken(runs: Path) -> None:
    results = synthetic.results_of("come", 24, 0, ("ppl", "acc"))
    pruned, original = results["pruned"], results["original"]
    pruned |= {"losses": [3.0, 4.0], "divergences": [0.1, 0.3], "perplexity": math.exp(3.5), "bits_per_byte": 0.7}
    pruned["hits"], pruned["questions"] = {"cloze_facts": "1100"}, {"cloze_facts": "ab"}
    pruned["accuracy"]["cloze_facts"] |= {"acc": 0.5, "items": 4}
    found = measured.samples(pruned, original, results["evaluation"])
    assert found["perplexity"].each == (3.0, 4.0) and found["kl"].each == (0.1, 0.3)
    assert found["bits_per_byte"].each == pytest.approx((0.6, 0.8))
    assert found["accuracy/cloze_facts"] == measured.Sample((1, 1, 0, 0), ("cloze_facts", "ab", 4), "question")
    above = original["accuracy"]["cloze_facts"]["acc"] - 0.25
    assert found["retention/cloze_facts"].each == pytest.approx((1 / above, 1 / above, 0, 0))
    pruned["accuracy"]["cloze_facts"]["acc"] = 0.9  # not what the answers come to
    assert "accuracy/cloze_facts" not in measured.samples(pruned, original, {})


def test_means_are_over_the_tasks_that_all_have(runs: Path) -> None:
    made = synthetic.sweep(runs, ["come", "sleb"], [24], measure=("acc",))
    for name in ("cloze_facts", "school_science"):
        results = made[1].results()
        for side in ("original", "pruned"):
            results[side]["accuracy"].pop(name)
        results["pruned"]["retention"].pop(name)
        (made[1].path / "results.json").write_text(json.dumps(results))
    items = comparison.entries([Run(run.path) for run in made])
    results, originals = measured.over_shared_tasks(
        [item.pruned for item in items if item.pruned], [item.original for item in items if item.original]
    )
    for each in (*results, *originals):
        both = [each.values[f"accuracy/{task}"].value for task in ("physical_sense", "what_happens_next")]
        assert each.values["accuracy"].value == pytest.approx(sum(both) / 2)
    assert results[0].values["accuracy"].basis == results[1].values["accuracy"].basis
    assert results[0].values["retention"].basis == results[1].values["retention"].basis
