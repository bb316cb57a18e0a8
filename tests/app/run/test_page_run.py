"""The run page with a run open: what is said of each state, resuming, deleting, and the list of all runs."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from streamlit.proto.WidgetStates_pb2 import WidgetStates
from streamlit.testing.v1 import AppTest

import come
import come.runs
from app import example_runs
from app.run import card as result_card
from app.run import sentences
from come.runs import Run
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


def by_method(lab: Lab, method: str) -> Run:
    return next(run for run in come.runs.list_runs(lab.runs) if run.config.method == method and run.plan())


def card(at: AppTest) -> str:
    """The card of a finished run: what it says, and its table."""
    said = [each.value for each in at.markdown if "layers became" in each.value]
    return " ".join([*said, *(html.proto.body for html in at.get("html") if "come-card" in html.proto.body)])


def _open_run_of(at: AppTest) -> WidgetStates:
    states = WidgetStates()
    states.widgets.extend(each for each in at._tree.get_widget_states().widgets if "open-run" in each.id)
    assert len(states.widgets) == 1
    return states


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
    assert "Perplexity, Accuracy, Speed" in alone and alone.count("not measured") == 1


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


def test_a_run_is_told_by_words_and_its_log_begins_with_its_first_line(visit: Visit, lab: Lab) -> None:
    run = lab.create(method="come", target_layers=4, name="Demo · CoMe", sweep="demo-1")
    at = visit("run", run=run.id)
    (header,) = (each.value for each in at.header if each.value.startswith("Demo, "))
    assert "CoMe" not in header and any(each.value.startswith("CoMe on ") for each in at.caption)
    said = [*(each.value for each in (*at.header, *at.caption, *at.markdown)), *(each.label for each in at.expander)]
    assert not [words for words in said if run.id in words or run.config.sweep in words]
    assert run.id in at.code[0].value and len(at.code) == 2, "the request alone: there is no log yet"
    unnamed = visit("run", run=lab.create(method="come", target_layers=4).id)
    assert any(each.value.startswith("CoMe on tiny-llama, to 4 layers") for each in unnamed.header)
    assert any(each.value.startswith("Calibrated on ") for each in unnamed.caption)
