from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch

import come
from come.errors import ComeError
from come.estimation.cost import estimate
from come.estimation.device import Device, known_device, remember
from come.measurement.measure import measure
from come.models import Facts
from come.pruning.registry import methods
from come.runs import create
from tests.estimation.requests import DEVICE, GB, compressing, request, scheduled, seconds
from tests.tiny import tiny_bundle, tiny_folder, tiny_tokens


def test_the_same_device_gives_the_same_estimate(facts: Facts) -> None:
    assert estimate(request(), facts, DEVICE) == estimate(request(), facts, DEVICE)


@pytest.mark.parametrize("method", sorted(methods()))
def test_every_method_has_an_estimate_whose_stages_add_up(facts: Facts, method: str) -> None:
    options = {"plus": False} if "plus" in methods()[method].defaults() else {}  # six of eight layers stay with it
    told = estimate(request(method=method, options=options), facts, DEVICE)
    assert told.seconds == pytest.approx(sum(told.seconds_by_stage.values()))
    assert min(told.seconds_by_stage.values()) > 0
    left = 8 if methods()[method].target == "parameters" else 5
    assert (told.layers, told.fits, told.warnings) == (left, True, ())


@pytest.mark.parametrize("method", [name for name, each in methods().items() if each.target == "parameters"])
def test_a_method_that_keeps_every_layer_has_them_all_run_and_saved(facts: Facts, method: str) -> None:
    everything = {"evaluate": ["ppl", "acc", "speed"], "recover": ["logits"], "recover_tokens": 1024}
    whole = estimate(request(method="reverse", target_layers=8, **everything), facts, DEVICE)
    told = estimate(request(method=method, **everything), facts, DEVICE)
    assert told.disk_bytes == whole.disk_bytes
    later = [stage for stage in told.seconds_by_stage if stage not in ("load", "compress")]
    assert {"evaluate pruned", "accuracy pruned", "speed", "recover", "save"} <= set(later)
    assert {stage: told.seconds_by_stage[stage] for stage in later} == pytest.approx(
        {stage: whole.seconds_by_stage[stage] for stage in later}
    )
    assert estimate(request(method=method, target_layers=3), facts, DEVICE).seconds > 0


def test_an_analysis_has_the_stage_that_its_run_has(facts: Facts) -> None:
    told = estimate(request(kind="analyze", target_layers=None), facts, DEVICE)
    assert list(told.seconds_by_stage) == ["start", "load", "text", "measure"]
    assert told.layers == 8
    bare = estimate(request(kind="analyze", target_layers=None, similarity=()), facts, DEVICE)
    assert bare.seconds < told.seconds
    assert bare.memory_bytes < told.memory_bytes


def test_stages_have_the_names_of_a_runs_results(facts: Facts) -> None:
    assert set(estimate(request(), facts, DEVICE).seconds_by_stage) == {
        *("start", "load", "text", "compress", "evaluate original", "evaluate pruned", "save")
    }
    plain = estimate(request(evaluate=[], keep_model=False), facts, DEVICE)
    assert set(plain.seconds_by_stage) == {"start", "load", "text", "compress"}
    assert plain.disk_bytes < 2_000_000


def test_the_weights_that_a_plan_holds_take_room(facts: Facts) -> None:
    def disk(**fields: Any) -> int:
        return estimate(request(evaluate=[], keep_model=False, dtype="float32", **fields), facts, DEVICE).disk_bytes

    plain = disk(method="shortgpt")
    assert disk(method="come-joint") - plain == 4 * facts.layer_parameters
    assert disk(method="come-joint", options={"span": 2}) - plain == 4 * 3 * facts.layer_parameters
    output = 4 * facts.hidden_size * facts.intermediate_size
    assert 0 < disk(method="shortgpt", options={"refit": True}) - plain <= 3 * output
    assert disk(method="come-joint", options={"sweep": True}) > disk(method="come-joint")


def test_more_tokens_take_longer_in_proportion(facts: Facts) -> None:
    once, twice, four = (compressing(facts, n_tokens=n) for n in (65536, 131072, 262144))
    assert once < twice < four
    assert four - twice == pytest.approx(2 * (twice - once), rel=1e-6)


def test_more_layers_to_remove_take_longer(facts: Facts) -> None:
    taken = [compressing(facts, target_layers=target, n_tokens=65536) for target in (7, 6, 5, 4)]
    assert taken == sorted(taken)


def test_a_deeper_model_takes_longer(tmp_path: Path, facts: Facts) -> None:
    deeper = come.describe(tiny_folder(tmp_path, layers=12))
    assert seconds(deeper, target_layers=9) > seconds(facts, target_layers=5)


def test_longer_windows_take_fewer_passes(facts: Facts) -> None:
    pairs, triples = (compressing(facts, target_layers=4, n_tokens=65536, options={"span": span}) for span in (2, 3))
    assert triples < pairs


def test_fewer_passes_take_less_and_removals_least(facts: Facts) -> None:
    many = compressing(facts, n_tokens=65536)
    one = compressing(facts, n_tokens=65536, options={"passes": 1})
    by_hand = compressing(facts, n_tokens=65536, target_layers=None, options={"windows": [[0, 1], [2, 3], [4, 5]]})
    removal = compressing(facts, n_tokens=65536, method="shortgpt")
    by_chance = compressing(facts, n_tokens=65536, method="random")
    assert by_chance < removal < one < many
    assert by_hand == pytest.approx(one, rel=0.05)


def test_a_refit_costs_a_layer_and_its_sums_for_each_merge(facts: Facts) -> None:
    plain, refitted = (compressing(facts, options={"refit": refit}) for refit in (False, True))
    assert 0 < refitted - plain < plain
    once = {"passes": 1}
    assert compressing(facts, options=once | {"refit": True}) - compressing(facts, options=once) > refitted - plain
    after = estimate(request(recover=["refit"], recover_tokens=request().n_tokens), facts, DEVICE)
    assert after.seconds_by_stage["recover"] > refitted - plain, "the layers between are run as well"


def test_gradients_cost_the_way_back_and_tuning_six_passes_more(facts: Facts) -> None:
    one, taylor, fisher, tuned = (
        compressing(facts, n_tokens=65536, method=method, options=options)
        for method, options in (
            ("deeper", {}),
            ("taylor", {"plus": False}),
            ("fisher", {"tune": False}),
            ("fisher", {"tune": True}),
        )
    )
    assert one < fisher < taylor < tuned
    counted, heads = [], []
    for name, options in (("taylor", {"plus": False}), ("fisher", {"tune": False}), ("fisher", {})):
        schedule = scheduled(facts, name, options)
        counted.append(schedule.unmeasured / facts.layers)
        heads.append(schedule.heads)
    assert counted == [2 + 2, 2 + 1, 2 + 1 + 6], "as often forwards; back through weights and states, or states alone"
    assert heads == [3, 3, 3]
    halved = compressing(facts, method="taylor", dtype="bfloat16", n_tokens=65536, options={"plus": False})
    assert halved > 0.7 * taylor, "in float32, which is half as fast, go the layers that gradients go through"
    unkept = scheduled(facts, "taylor", {}, stride=facts.layers + 1)
    assert unkept.unmeasured > 4 * facts.layers, "what enters a layer is run again"


@pytest.mark.parametrize("method", ["come", "come-p"])
def test_scores_and_fisher_information_cost_time_and_memory(facts: Facts, method: str) -> None:
    def told(**options: Any) -> tuple[float, int, dict[str, int]]:
        found = estimate(request(n_tokens=65536, method=method, options=options), facts, DEVICE)
        return found.seconds_by_stage["compress"], found.memory_bytes, found.memory_by_part

    plain, removal, loss, kl, fisher = (
        told(**options)
        for options in ({}, {"select": "removal-loss"}, {"select": "loss"}, {"select": "kl"}, {"sensitivity": "fisher"})
    )
    assert loss[0] < removal[0], "of removals there is one more in each step"
    assert loss[0] < kl[0], "the original is run once for its predictions"
    assert plain[0] < fisher[0]
    # What is scored on is measured no more, nor searched on, which is most of the work of CoMe-P.
    assert (plain[0] < loss[0]) == (method == "come")
    assert kl[2]["predictions"] == 4 * facts.vocab_size * 65536 // 8
    assert kl[1] - loss[1] == kl[2]["predictions"] and "predictions" not in loss[2]
    assert fisher[2]["gradients"] > 0 and "gradients" not in plain[2]
    some, every = (scheduled(facts, method, {"sensitivity": "fisher", "select": each}) for each in ("sbi", "loss"))
    assert every.unmeasured == 3 * (8 + 7 + 6) and every.heads == 3 * 3
    assert some.unmeasured == every.unmeasured / 2, "from the window on, which is taken to lie in the middle"
    by_hand = scheduled(facts, method, {"sensitivity": "fisher", "windows": [(2, 3), (5, 6)]})
    assert by_hand.unmeasured == 3 * 6


def test_the_light_layer_is_trained(facts: Facts) -> None:
    def streamline(**options: Any) -> float:
        return compressing(facts, n_tokens=65536, method="streamline", options=options)

    assert compressing(facts, n_tokens=65536, method="shortgpt") < streamline(steps=1) < streamline()
    one, two, three = (streamline(steps=steps) for steps in (1000, 2000, 3000))
    assert two - one == pytest.approx(three - two)
    assert streamline(minutes=30) - streamline(minutes=10) == pytest.approx(20 * 60)
    assert streamline(minutes=30, steps=5) > 30 * 60
    untouched = compressing(facts, method="streamline", target_layers=8, options={"minutes": 30})
    assert untouched < 1, "nothing is removed, so nothing is trained"


def test_a_search_costs_its_candidates(facts: Facts) -> None:
    plain = compressing(facts, target_layers=7)
    found = [
        compressing(facts, target_layers=7, method="come-p", options=options)
        for options in ({"granularity": 4}, {"search": "coarse-to-fine"}, {})
    ]
    assert plain < found[0] < found[1] < found[2]


def test_an_analysis_tells_where_windows_will_lie(facts: Facts) -> None:
    seen = measure(tiny_bundle(layers=8), tiny_tokens(), similarity=())
    taken = {}
    for first in (0, 6):
        influence = torch.full((7,), 0.4)
        influence[first] = 0.1
        analysis = dataclasses.replace(seen, skip_influence=influence)
        told = estimate(request(n_tokens=65536, target_layers=6), facts, DEVICE, measurement=analysis)
        taken[first] = told.seconds_by_stage["compress"]
        assert any("analysis" in sentence for sentence in told.assumptions)
    assert taken[6] < taken[0]
    assert taken[6] < compressing(facts, n_tokens=65536, target_layers=6)


def test_without_facts_the_config_is_looked_up(tmp_path: Path) -> None:
    folder = tiny_folder(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("one two three " * 500)
    told = estimate(request(model=str(folder), text=str(text)), device=DEVICE)
    assert told.layers == 5
    assert json.loads(json.dumps(told.to_dict()))["seconds"] == told.seconds
    with pytest.raises(ComeError, match="no-such"):
        estimate(request(model=str(folder), text="no-such-text.txt"), device=DEVICE)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target_layers": 9}, "out of range"),
        ({"n_tokens": 10}, "do not fill one sequence"),
        ({"evaluation_tokens": 10}, "do not fill one sequence"),
        ({"seq_len": 512}, "longer than"),
        ({"options": {"spam": 2}}, "no option"),
        ({"options": {"passes": 9}}, "passes"),
        ({"dtype": "float16"}, "not known"),
        ({"method": "comb"}, "no method"),
    ],
)
def test_impossible_requests_are_one_sentence(facts: Facts, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ComeError, match=words):
        estimate(request(**changes), facts, DEVICE)


def test_without_a_device_the_known_one_serves_until_it_is_measured_again(
    facts: Facts, monkeypatch: pytest.MonkeyPatch
) -> None:
    remember(DEVICE, "float32")
    assert estimate(request(), facts).device.flops == DEVICE.flops

    def measured(dtype: str, seconds: float = 1.0, device: str = "auto") -> Device:
        return Device("measured anew", {dtype: 5e9}, 1e9, 8 * GB, measured=True)

    monkeypatch.setattr(importlib.import_module("come.estimation.cost"), "measure_device", measured)
    assert estimate(request(), facts, remeasure=True).device.name == "measured anew"
    known = known_device("float32")
    assert known is not None and known.flops == {"float32": 5e9}


def test_an_earlier_analysis_of_the_model_is_found(tmp_path: Path) -> None:
    from come.runs import execute

    folder = tiny_folder(tmp_path)
    text = tmp_path / "text.txt"
    text.write_text("one two three four " * 1000)
    what = {"model": str(folder), "text": str(text)}
    execute(create(request(kind="analyze", target_layers=None, **what)))
    told = come.estimate(request(target_layers=4, seed=7, **what), device=DEVICE)
    assert any("analysis" in sentence for sentence in told.assumptions)


def test_the_documented_table_is_the_one_that_the_benchmark_prints() -> None:
    from benchmarks.estimate import extrapolated

    documented = (Path(__file__).parents[2] / "docs" / "cost.md").read_text("utf-8")
    assert extrapolated() in documented


def test_what_the_model_has_to_say_first_is_counted(facts: Facts) -> None:
    def text(**changes: Any) -> float:
        return estimate(request(**changes), facts, DEVICE).seconds_by_stage["text"]

    recovering = {"recover": ["logits"], "recover_tokens": 4096}
    once, more = text(text="self"), text(text="self", n_tokens=4096)
    assert text(text="mix") == text() < once < more
    assert text(**recovering) < text(**recovering, recover_text="self") < text(text="self", **recovering)
    said = [told for told in estimate(request(text="self"), facts, DEVICE).assumptions if "'self'" in told]
    assert len(said) == 1


def test_a_text_of_the_hub_is_said_to_be_fetched(facts: Facts) -> None:
    told = estimate(request(text="wikitext2:rows=256,seed=10"), facts, DEVICE).assumptions
    assert "wikitext2: fetched from the hub when the run starts, where it is not here yet." in told
    assert not any("fetched" in each for each in estimate(request(), facts, DEVICE).assumptions)


def test_what_the_pruned_model_writes_to_learn_from_is_counted(facts: Facts) -> None:
    def recovery(how: str, tokens: int = 8192, **options: Any) -> float:
        config = request(recover=[how], recover_tokens=tokens, recover_options=options)
        return estimate(config, facts, DEVICE).seconds_by_stage["recover"]

    assert recovery("on-policy") > 1.1 * recovery("logits")
    assert recovery("on-policy", round_tokens=1024) > 1.05 * recovery("on-policy"), "fewer sequences side by side"
    assert recovery("on-policy", steps=8) == pytest.approx(2 * recovery("on-policy", steps=4, round_tokens=8192), 0.01)
    assert recovery("on-policy", minutes=2.0) == 120


def test_training_merged_layers_alone_costs_less(facts: Facts) -> None:
    def recovery(how: str, **options: Any) -> float:
        config = request(recover=[how], recover_tokens=8192, recover_options=options)
        return estimate(config, facts, DEVICE).seconds_by_stage["recover"]

    once = {trains: recovery("logits", trains=trains, steps=4) for trains in ("merged", "layers")}
    again = {trains: recovery("logits", trains=trains, steps=40) for trains in ("merged", "layers")}
    assert once["merged"] < once["layers"]
    assert again["merged"] < 10 * once["merged"], "what the original says is made once"
    assert again["merged"] / again["layers"] < once["merged"] / once["layers"], "so is what enters the lowest of them"
    assert recovery("distill-sp", output="model", steps=4) > recovery("distill-sp", steps=4)
