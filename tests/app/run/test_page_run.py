"""The run page: starting runs, opening one by its link, what is said of each state, resuming, deleting."""

from __future__ import annotations

import shlex
import socket
from collections.abc import Callable
from typing import get_args

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.testing.v1 import AppTest
from typer.testing import CliRunner

import come
import come.runs
from app import example_runs
from app.figures import run as figures
from app.run import card as result_card
from app.run import sentences
from app.state import request
from app.state.choice import Choice, Draft
from come.cli import app as cli
from come.runs import Run, reported
from come.runs.command_line import command_line
from come.runs.state import State
from come.serving.limits import DEMO
from come.training.losses import Loss
from tests.app.conftest import Lab
from tests.runs.test_reported import EVENTS

Visit = Callable[..., AppTest]


def by_method(lab: Lab, method: str) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == method and run.plan())


def rivals(at: AppTest, *chosen: str) -> None:
    """Choose just these to compare with."""
    for box in at.checkbox:
        if str(box.key).startswith("rival-"):
            box.set_value(box.key in [f"rival-{name}" for name in chosen])
    at.run()


def card(at: AppTest) -> str:
    """The card of a finished run: what it says, and its table."""
    said = [each.value for each in at.markdown if "layers became" in each.value]
    return " ".join([*said, *(html.proto.body for html in at.get("html") if "come-card" in html.proto.body)])


def test_every_rival_is_said_in_a_sentence(visit: Visit) -> None:
    at = visit("run", target="4")
    boxes = {str(box.key): box for box in at.checkbox if str(box.key).startswith("rival-")}
    assert boxes.keys() == {f"rival-{name}" for name in come.methods() if name != "come"}
    assert [key for key, box in boxes.items() if box.value] == ["rival-shortgpt", "rival-random"]
    assert all(come.methods()[key.removeprefix("rival-")].title in box.label for key, box in boxes.items())
    assert all((box.help or box.label).endswith(".") for box in boxes.values())


def test_where_work_starts_the_machine_and_the_line_are_told(visit: Visit, lab: Lab) -> None:
    at = visit("run", target="4")
    assert any("of memory free" in each.value and "yours starts at once" in each.value for each in at.caption)
    lab.create(target_layers=3)
    at = visit("run", target="4")
    assert any("1 run at work or waiting: yours is number 2" in each.value for each in at.caption)


def test_the_request_is_one_sentence_and_the_commands_are_shown(visit: Visit, lab: Lab) -> None:
    at = visit("run", target="4")
    assert not at.exception and not at.error
    assert any("6 → 4 layers" in each.value for each in at.markdown)
    commands = at.code[0].value.splitlines()
    methods = [line.split("--method ")[1].split()[0] for line in commands]
    assert methods[0] == "come" and set(methods[1:]) == {"random", "shortgpt"}
    assert all("--target-layers 4" in line for line in commands)
    assert at.button(key="start").label == "Start 3 runs"


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
    at.number_input(key="task-limit").set_value(7).run()
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


def test_a_finished_run_is_opened_by_its_link(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    at = visit("run", run=run.id)
    assert not at.exception and not at.error
    assert "6 layers became 4" in card(at) and "perplexity went from" in card(at)
    assert {each.label for each in at.get("download_button")} >= {"Download the plan", "Download the model card"}
    assert at.selectbox(key=f"open-run-{run.id}").value == run.id


def test_the_card_holds_both_models_each_number_with_its_error() -> None:
    ask = {"items": "a", "chance": 0.25}
    before = {"layers": 30, "parameters": 100, "bytes": 400, "perplexity": 10.0, "perplexity_stderr": 0.5}
    before |= {"accuracy": {"a": ask | {"acc": 0.6, "acc_stderr": 0.03}, "b": ask | {"acc": 0.4, "acc_stderr": 0.04}}}
    before |= {"speed": {"decode_tokens_per_second": 20.0, "spread": {"decode_tokens_per_second": [19.0, 21.0]}}}
    after = before | {"layers": 24, "parameters": 80, "perplexity": 15.0, "perplexity_stderr": 0.7, "kl": 0.3}
    after |= {"accuracy": {"a": ask | {"acc": 0.5, "acc_stderr": 0.03}, "b": ask | {"acc": 0.4, "acc_stderr": 0.04}}}
    after |= {"speed": {"decode_tokens_per_second": 25.0, "spread": {"decode_tokens_per_second": [24.0, 26.0]}}}
    table = result_card.numbers({"original": before, "pruned": after})
    for said in ("10.0 <small>± 0.5", "15.0 <small>± 0.7", "1.50×", "50.0", "± 2.5", "−5.0 points", "mean of 2 sets"):
        assert said in table, said
    assert "25.0 <small>(24.0–26.0) tokens/s" in table and "1.25×" in table and "−20%" in table
    assert "not measured" not in table
    alone = result_card.numbers({"original": {"layers": 6}, "pruned": {"layers": 4}})
    assert alone.count("not measured") == 3


def test_the_plan_of_a_run_is_edited_from_its_card(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    choice, draft = result_card.asked_again(run, run.config)
    assert (choice.model, choice.tokens) == (str(lab.model), 1024)
    plan = run.plan()
    assert draft.windows == [(group[0], group[-1]) for group in plan.groups() if len(group) > 1]
    at = visit("run", run=run.id)
    at.button(key="edit-plan").click().run()
    assert not at.exception and not at.error
    assert "".join(at.query_params["windows"]) == ",".join(f"{first}-{last}" for first, last in draft.windows)


def test_the_strip_shows_the_plan_of_the_run_that_is_open(visit: Visit, lab: Lab) -> None:
    at = visit("run", run=by_method(lab, "shortgpt").id, target="5")
    strip = next(html.proto.body for html in at.get("html") if "come-strip" in html.proto.body)
    assert "ShortGPT" in strip and "6 → 4 layers" in strip and "not run yet" not in strip
    assert "perplexity" in strip and "compress" not in strip


def test_a_run_that_is_not_here_is_said_in_words_for_visitors(visit: Visit, lab: Lab) -> None:
    at = visit("run", run="no-such-run")
    (warning,) = at.warning
    assert "no run “no-such-run” here" in warning.value and str(lab.runs) not in warning.value


def test_what_was_asked_and_what_recovery_did_are_sentences(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = lab.create(method="come", sparsity=0.2)
    assert ", removing at least 20% of the parameters; " in sentences.request_sentence(asked.config)
    sides = {"original": (11.3, 30), "unrecovered": (45.2, 24), "pruned": (20.34, 24)}
    found = {side: {"perplexity": value, "layers": n, "parameters": n} for side, (value, n) in sides.items()}
    monkeypatch.setattr(Run, "results", lambda run: found)
    assert sentences.result_sentence(asked).endswith(
        "; pruning took perplexity from 11.3 to 45.2 (4.00 times the original's), recovery to 20.3 (1.80 times)."
    )


def test_a_shipped_run_can_be_looked_at_but_not_changed(visit: Visit, lab: Lab, monkeypatch) -> None:
    shipped = lab.runs.rename(lab.runs.with_name("shipped"))
    monkeypatch.setattr(example_runs, "FOLDER", shipped)
    files = sorted(shipped.rglob("*"))
    run = next(run for run in come.runs.list_runs(shipped) if run.config.method == "shortgpt")
    at = visit("run", run=run.id)
    assert not at.exception and not at.error and not at.warning
    assert "6 layers became 4" in card(at)
    assert any("Shipped example" in each.value for each in at.caption)
    assert {button.key for button in at.button} <= {"new-run", "present", "talk-to-it", "edit-plan"}
    assert {each.label for each in at.get("download_button")} == {"Download the plan", "Download the report"}
    assert sorted(shipped.rglob("*")) == files
    own = lab.create(target_layers=3)
    own.update(status="failed", error="The disk is full.")
    at = visit("run", run=run.id)
    assert not at.exception and at.selectbox(key="open-run-").value is None  # it is none of those in the list
    assert at.button(key="new-run")


def test_the_run_page_shows_the_newest_of_what_was_opened_and_what_was_planned(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    at = visit("run", run=run.id, target="4")
    assert at.button(key="new-run").help == "Of the plan that you have now: 6 → 4 layers."
    for target, shows_run in ((4, True), (3, False)):
        at.switch_page("../pages/plan.py").run()
        at.slider(key="target").set_value(target).run()
        at.query_params.pop("run", None)  # a click in the sidebar leaves it out
        at.switch_page("../pages/run.py").run()
        assert not at.exception
        assert ("new-run" in [button.key for button in at.button]) is shows_run
        assert ("start" in [button.key for button in at.button]) is not shows_run


def test_a_run_that_is_not_there_is_one_sentence(visit: Visit) -> None:
    at = visit("run", run="20200101-000000-come-3-none")
    assert not at.exception
    assert any("There is no run" in each.value for each in at.warning)


def test_all_runs_are_listed_with_their_state(visit: Visit, lab: Lab) -> None:
    failed = lab.create(target_layers=3)
    failed.update(status="failed", error="The disk is full.", hint="Free some space.")
    at = visit("run")
    table = at.dataframe[0].value
    assert len(table) == 4
    assert set(table["status"]) == {"done", "failed"}
    at.selectbox(key="open-run-").set_value(failed.id).run()
    assert any("The disk is full. Free some space." in each.value for each in at.error)
    assert at.button(key="resume")


def test_a_label_that_is_no_option_any_more_does_not_close_the_run(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "come")
    at = visit("run", run=run.id)
    chosen = at.selectbox(key=f"open-run-{run.id}")
    chosen.options.append("CoMe, as it was called before")  # what a browser sends that has not drawn the new ones yet
    chosen.set_value("CoMe, as it was called before").run()
    assert not at.exception and not at.warning
    assert at.query_params["run"] in (run.id, [run.id]) and at.selectbox(key=f"open-run-{run.id}").value == run.id


def test_what_a_browser_says_of_the_list_before_does_not_close_the_run(visit: Visit, lab: Lab) -> None:
    """A page that follows something asks while a click is on its way, with the widgets as they stood before it."""
    first, second = by_method(lab, "come"), by_method(lab, "shortgpt")
    at = visit("run")
    before = _open_run_of(at)
    at.selectbox(key="open-run-").set_value(first.id).run()
    at._run(before)
    assert not at.exception and at.query_params["run"] in (first.id, [first.id])
    before = _open_run_of(at)
    at.query_params["run"] = second.id
    at.run()
    at._run(before)
    assert not at.exception and at.query_params["run"] in (second.id, [second.id])
    assert at.selectbox(key=f"open-run-{second.id}").value == second.id


def _open_run_of(at: AppTest) -> WidgetStates:
    states = WidgetStates()
    states.widgets.extend(each for each in at._tree.get_widget_states().widgets if "open-run" in each.id)
    assert len(states.widgets) == 1
    return states


def test_an_interrupted_run_says_so_and_can_be_resumed(visit: Visit, lab: Lab, monkeypatch) -> None:
    resumed: list[Run] = []
    monkeypatch.setattr(come.runs, "resume", lambda run, allowed: resumed.append(run))
    run = lab.create(target_layers=3)
    run.update(status="running", pid=2**22 + 1, process_started=1.0, host=socket.gethostname())
    at = visit("run", run=run.id)
    assert not at.exception
    assert any("process is gone" in each.value for each in at.warning)
    at.button(key="resume").click().run()
    assert [each.id for each in resumed] == [run.id]


def test_a_run_is_deleted_only_after_confirmation(visit: Visit, lab: Lab) -> None:
    run = by_method(lab, "shortgpt")
    at = visit("run", run=run.id)
    at.button(key="delete").click().run()
    assert not at.exception and not at.error
    assert not run.path.exists()
    assert "run" not in at.query_params


def test_a_directory_that_is_no_run_harms_nothing(visit: Visit, lab: Lab) -> None:
    (lab.runs / "20990101-000000-come-3-odd").mkdir()
    (lab.runs / "20990101-000000-come-3-odd" / "config.json").write_text("{")
    at = visit("run")
    assert not at.exception and not at.error
    assert sorted(at.dataframe[0].value["status"]) == ["done", "done", "done", "unreadable"]


# --- what is said, and the figures -------------------------------------------------------------------


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


def test_stages_are_done_now_and_to_come(lab: Lab) -> None:
    config = by_method(lab, "come").config
    words = sentences.stages(config, State(stage="compress"))
    assert words == "Load ✓ → **Prune** → :gray[Perplexity] → :gray[Save]"


def test_what_a_run_carries_live_becomes_a_line(lab: Lab) -> None:
    (line,) = reported.series(by_method(lab, "come").events())
    assert line.y == "SBI" and line.xs == [1, 2] and len(line.ys) == 2


def test_the_figure_of_a_training_marks_what_was_held_out() -> None:
    table = reported.curves(EVENTS)
    figure = figures.losses("distill-mp, layer 3", reported.of_part(table, "distill-mp, layer 3"))
    assert [trace.name for trace in figure.data] == ["training", "held out"]
    assert figure.layout.title.text == "Distill-mp, layer 3: held-out loss 0.8 after step 2, the lowest of 2 checks"
    single = figures.losses("logits", reported.of_part(table, "logits"))
    assert single.data[1].mode == "markers"  # a line of one point is not seen
    alone = figures.losses("distill-mp, layer 4", reported.of_part(table, "distill-mp, layer 4"))
    assert len(alone.data) == 1 and "0.7 at first" in alone.layout.title.text


def test_the_figure_marks_the_merged_windows(lab: Lab) -> None:
    history = by_method(lab, "come").results()["history"]
    figure = figures.steps(history)
    assert figure is not None
    assert list(figure.data[1].x) == [record["window"][0] for record in history]
    assert figure.layout.title.text.startswith("The first step merged layers")


def test_the_figure_of_a_removal_tells_removed_from_kept(lab: Lab) -> None:
    history = by_method(lab, "shortgpt").results()["history"]
    figure = figures.steps(history)
    assert figure is not None
    assert len(figure.data[0].x) == 4 and len(figure.data[1].x) == 2
    assert figures.steps([]) is None
    assert figures.steps([{"window": [1, 1], "ratio": [], "block_influence": [], "skip_influence": []}]) is None


def test_what_the_model_says_may_be_calibrated_on_but_judges_nothing(visit: Visit) -> None:
    at = visit("run", target="4", text="self")
    assert not at.exception and not at.error
    offered = at.selectbox(key="evaluation-text").options
    assert offered[0] == "Held-out part of: Python language reference"
    assert "Mix of several kinds" in offered and "Sampled from the model itself" not in offered
    commands = at.code[0].value.splitlines()
    assert commands and all("--text self" in line for line in commands)
    assert visit("run", target="4").selectbox(key="evaluation-text").options[0] == "Held-out part of the same text"
