"""The run page's form: what it offers, what it asks for, and the runs that it starts."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

import come
import come.runs
from app.state import request
from app.state.choice import Choice, Draft
from come.cli import app as cli
from come.runs import Run
from come.runs.command_line import command_line
from come.serving.limits import DEMO
from come.training.losses import Loss
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def rivals(at: AppTest, *chosen: str) -> None:
    """Choose just these to compare with."""
    for box in at.checkbox:
        if str(box.key).startswith("rival-"):
            box.set_value(box.key in [f"rival-{name}" for name in chosen])
    at.run()


def test_every_rival_is_said_in_a_sentence(visit: Visit) -> None:
    at = visit("run", target="4")
    boxes = {str(box.key): box for box in at.checkbox if str(box.key).startswith("rival-")}
    assert boxes.keys() == {f"rival-{name}" for name in come.methods() if name != "come"}
    assert [key for key, box in boxes.items() if box.value] == ["rival-shortgpt", "rival-come-joint"]
    assert all(come.methods()[key.removeprefix("rival-")].title in box.label for key, box in boxes.items())
    assert all((box.help or box.label).endswith(".") for box in boxes.values())


def test_where_work_starts_the_machine_and_the_line_are_told(visit: Visit, lab: Lab) -> None:
    at = visit("run", target="4")
    assert any("of memory free" in each.value and "yours starts at once" in each.value for each in at.caption)
    lab.create(target_layers=3)
    at = visit("run", target="4")
    assert any("1 run at work or waiting: yours is number 2" in each.value for each in at.caption)


def test_a_machine_that_other_programs_keep_busy_is_told(visit: Visit, monkeypatch: pytest.MonkeyPatch) -> None:
    for load, told in ((0.0, False), (1e3, True)):
        monkeypatch.setattr("psutil.getloadavg", lambda load=load: (load, load, load))
        at = visit("run", target="4")
        assert any("keep this machine busy" in each.value for each in at.caption) == told


def test_the_request_is_one_sentence_and_the_commands_are_shown(visit: Visit, lab: Lab) -> None:
    at = visit("run", target="4")
    assert not at.exception and not at.error
    assert any("6 → 4 layers" in each.value for each in at.markdown)
    commands = at.code[0].value.splitlines()
    methods = [line.split("--method ")[1].split()[0] for line in commands]
    assert methods[0] == "come" and set(methods[1:]) == {"come-joint", "shortgpt"}
    assert all("--target-layers 4" in line for line in commands)
    assert at.button(key="start").label == "Start 3 runs"


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        ({"target": "4", "method": "shortgpt"}, "2 layers go; 4 stay whole"),
        ({"windows": "1-2", "method": "come-joint"}, "Foreseen: 2 layers become 1; 4 stay whole"),
        ({"target": "4", "method": "laco"}, ""),  # only its run tells
        ({"windows": ""}, ""),  # nothing is chosen yet
    ],
)
def test_what_the_plan_makes_of_the_layers_is_drawn_where_it_is_foreseen(
    plan: dict[str, str], said: str, visit: Visit
) -> None:
    for present in ({}, {"present": "1"}):
        at = visit("run", **plan, **present)
        assert not at.exception
        drawn = [each.proto.body for each in at.get("html") if "st-key-planned" in each.proto.body]
        assert len(drawn) == bool(said) and all(f"<p class='come-finding'>{said}</p>" in each for each in drawn)


def test_before_a_room_the_picture_stands_above_the_form(visit: Visit) -> None:
    for present, above in (({}, False), ({"present": "1"}, True)):
        at = visit("run", target="4", method="shortgpt", **present)
        words = [getattr(each.proto, "body", "") for each in at.main if each.type in ("html", "markdown")]
        picture = next(place for place, body in enumerate(words) if "st-key-planned" in body)
        model = next(place for place, body in enumerate(words) if body.startswith("**Model**"))
        assert (picture < model) == above


def test_starting_makes_one_run_a_method_and_opens_the_first(visit: Visit, lab: Lab, monkeypatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("run", target="5")
    rivals(at, "shortgpt")
    at.text_input(key="run-name").set_value("one less").run()
    at.toggle(key="keep").set_value(False).run()
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    assert [run.config.method for run in launched] == ["come", "shortgpt"]
    assert {run.config.target_layers for run in launched} == {5}
    assert launched[0].config.name == "one less" and not launched[0].config.keep_model
    assert at.query_params["run"] in (launched[0].id, [launched[0].id])
    assert any(each.value.startswith("one less, ") for each in at.header)
    assert any("waiting · 0 of 2 done" in each.value for each in at.markdown)
    assert len({run.config.sweep for run in launched}) == 1 and launched[0].config.sweep


def test_methods_targets_and_seeds_make_a_sweep(visit: Visit, lab: Lab, monkeypatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("run", target="5")
    rivals(at, "random")
    at.multiselect(key="also-at").set_value([4]).run()
    at.number_input(key="seeds").set_value(2).run()
    at.get_by_key("measures").set_value(["ppl", "acc"]).run()
    at.number_input(key="task-limit").set_value(7)  # a click sends what was typed before it along
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    cells = [(run.config.seed, run.config.method, run.config.target_layers) for run in launched]
    assert cells[0] == (0, "come", 5)
    assert sorted(cells) == [(seed, name, left) for seed in (0, 1) for name in ("come", "random") for left in (4, 5)]
    assert all((run.config.evaluate, run.config.task_limit) == (["ppl", "acc"], 7) for run in launched)


def test_a_recovery_is_chosen_with_one_click(visit: Visit, lab: Lab, monkeypatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("run", target="5")
    next(button for button in at.button if button.label.startswith("Take the default")).click().run()
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    assert all(run.config.recover == ["refit", "logits"] for run in launched)
    assert launched[0].config.recover_options == {"logits.minutes": 5.0}


def test_the_loss_of_a_layer_distillation_is_a_choice_of_the_options_type(visit: Visit, lab: Lab, monkeypatch) -> None:
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    at = visit("run", target="5")
    at.pills(key="recover").set_value(["distill-mp", "logits"]).run()
    assert [each.key for each in at.get("button_group") if "recover-loss" in (each.key or "")] == [
        "recover-loss-distill-mp"
    ]
    choice = at.get_by_key("recover-loss-distill-mp")
    assert (choice.options, choice.value) == (list(get_args(Loss)), "mse")
    choice.set_value("cosine").run()
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    assert launched[0].config.recover_options["distill-mp.loss"] == "cosine"


def test_in_a_demonstration_the_form_asks_for_no_more_than_is_allowed(visit: Visit, monkeypatch) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    launched: list[Run] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, **_: launched.extend(runs))
    monkeypatch.setattr("come.runs.admission.active_requests", lambda *_, **__: {})
    at = visit("run", model="smollm2-135m", text="python-docs", target="27")
    next(button for button in at.button if button.label.startswith("Take the default")).click().run()
    at.pills(key="measures").set_value(["ppl", "acc"]).run()
    assert "mmlu" not in at.multiselect(key="tasks").options  # 57 sets
    at.button(key="start").click().run()
    assert not at.exception and not at.error
    assert launched[0].config.recover_options == {"logits.minutes": DEMO.train_minutes}
    assert launched[0].config.recover_tokens == DEMO.run_tokens


def test_runs_go_where_the_form_says(visit: Visit, lab: Lab, monkeypatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(come.runs, "launch", lambda *runs, where="": sent.append(where))
    monkeypatch.setattr("come.cluster.check_reachable", lambda place: None)
    at = visit("run", target="5")
    at.text_input(key="where").set_value("ray://head:10001").run()
    at.button(key="start").click().run()
    assert not at.exception and sent == ["ray://head:10001"]
    at = visit("run", target="5")
    at.text_input(key="where").set_value("moon").run()
    at.button(key="start").click().run()
    assert not at.exception and len(at.error) == 1 and len(sent) == 1


def test_a_bad_text_is_one_sentence_and_no_run_is_left(visit: Visit, lab: Lab) -> None:
    empty = lab.text.with_name("empty.txt")
    empty.write_text("")
    before = len(come.runs.list_runs(lab.runs))
    at = visit("run", target="5", text=str(empty))
    at.button(key="start").click().run()
    assert not at.exception
    assert len(at.error) == 1
    assert len(come.runs.list_runs(lab.runs)) == before


def test_the_command_line_does_the_same_as_the_request(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Choice(model=str(lab.model), text=str(lab.text), tokens=512, seq_len=64, seed=2)
    by_hand = Draft(windows=[(1, 2)], ratios=[(0.4, 0.6)], options={"exponent": 0.5})
    requests = [
        request.config(choice, by_hand, name="two words", keep_model=False, evaluation_tokens=256),
        request.config(choice, Draft(sparsity=0.125), save_dtype="bfloat16"),
        request.config(choice, Draft("random", target_layers=3, options={"seed": 4})),
    ]
    launched: list[Run] = []
    monkeypatch.setattr("come.cli.prune.launch", lambda *runs, **_: launched.extend(runs))
    for wanted in requests:
        words = shlex.split(command_line(wanted))
        result = CliRunner().invoke(cli, [*words[1:], "--background"])
        assert result.exit_code == 0, result.output
        assert launched[-1].config == wanted


def test_what_the_model_says_may_be_calibrated_on_but_judges_nothing(visit: Visit) -> None:
    at = visit("run", target="4", text="self")
    assert not at.exception and not at.error
    offered = at.selectbox(key="evaluation-text").options
    assert offered[0] == "Held-out part of: Python language reference"
    assert "Mix of several kinds" in offered and "Sampled from the model itself" not in offered
    commands = at.code[0].value.splitlines()
    assert commands and all("--text self" in line for line in commands)
    assert visit("run", target="4").selectbox(key="evaluation-text").options[0] == "Held-out part of the same text"


def test_more_evaluation_tokens_than_any_machine_reads_are_refused_in_a_sentence(visit: Visit) -> None:
    at = visit("run", target="4")
    at.number_input(key="evaluation-tokens").set_value(99_999_999_999).run()
    (error,) = at.error
    assert error.value == "99,999,999,999 evaluation tokens are more than is read here. Take 10,000,000 at most."
    assert at.button(key="start").disabled
    at.number_input(key="evaluation-tokens").set_value(512).run()
    assert not at.error and not at.button(key="start").disabled


def test_on_a_fresh_machine_it_says_the_time_of_a_usual_one_as_home_does(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    at = visit("run", target="4")
    assert [each.value for each in at.caption if each.value.startswith("Expected on two processor cores: about ")]


def test_an_unknown_method_is_told_with_few_names(visit: Visit) -> None:
    at = visit("run", method="nonsense", target="4")
    told = " ".join(each.value for each in [*at.error, *at.warning, *at.markdown])
    assert "There is no method 'nonsense'." in told and "or one of the" in told and "shortgpt" not in told
