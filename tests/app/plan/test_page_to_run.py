"""From the plan page to a run: it is told of the plan, does what was shown, and what it did is told back."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

import come.runs
from app.state import foreseen
from app.state.choice import Draft, plan_fields
from come.measurement.measurement import Measurement
from come.models import describe
from come.plan.steps import Concatenate
from come.pruning import kept_units
from tests.app.conftest import Lab
from tests.app.plan.reading import shown
from tests.rewriting import rewrite_plan

Visit = Callable[..., AppTest]
pytestmark = pytest.mark.usefixtures("no_process")


def test_a_run_of_windows_and_dropped_layers_does_what_the_page_showed(visit: Visit, lab: Lab) -> None:
    draft = Draft(windows=[(1, 2)], ratios=[(0.25, 0.75)], dropped=(4,))
    run = lab.create(**plan_fields(draft), evaluate=[])
    come.runs.execute(run)
    at = visit("plan", windows="1-2", ratios="0.250000-0.750000", drop="4")
    assert "run: done" in shown(at), "the plan is known as the one that was run"
    facts = describe(str(lab.model))
    plan = run.plan()
    assert plan is not None and plan.groups() == [[0], [1, 2], [3], [5]]
    (analysis,) = [each for each in come.runs.list_runs() if each.config.kind == "analyze"]
    measured = Measurement.load(analysis.path / "analysis.safetensors")
    found = foreseen.forecast(draft, measured, facts)
    assert found is not None
    promised = kept_units.of_windows(found.windows, facts, found.removed)
    made = kept_units.of_plan(plan, facts)
    assert (promised.groups, promised.layers) == (made.groups, made.layers)


def test_what_a_fit_kept_is_drawn_once_it_has_run(visit: Visit, lab: Lab) -> None:
    draft = Draft(method="come-joint", windows=[(1, 3)])
    asked = {"method": "come-joint", "windows": "1-3"}
    before = visit("plan", **asked)
    assert any("An estimate: the run solves" in each.value for each in before.caption)
    run = lab.create(**plan_fields(draft), evaluate=[])
    come.runs.execute(run)
    at = visit("plan", **asked)
    assert not at.exception and not any("An estimate" in each.value for each in at.caption)
    plan, table = run.plan(), at.dataframe[0].value
    assert plan is not None
    kept = next(name for name in table if name.startswith("Feed-forward"))
    merged = next(step for step in plan.steps if isinstance(step, Concatenate))
    assert table[kept].tolist() == [len(channels) for channels in merged.channels]


def test_going_to_the_run_page_tells_what_is_dropped(visit: Visit) -> None:
    at = visit("plan", windows="1-2", drop="4")
    at.button(key="go-to-run").click().run()
    assert not at.exception and not at.error
    assert any("6 → 4 layers" in each.value and "dropping 4" in each.value for each in at.markdown)


def test_going_to_the_run_page_keeps_the_plan(visit: Visit) -> None:
    at = visit("plan", target="4")
    at.button(key="go-to-run").click().run()
    assert not at.exception and not at.error
    assert at.button(key="start")
    assert any("6 → 4 layers" in each.value for each in at.markdown)


def test_windows_that_its_run_took_are_told_where_others_are_drawn(visit: Visit, lab: Lab) -> None:
    def told(at: AppTest) -> list[str]:
        assert not at.exception and not at.error
        return [each.value for each in at.info if "took other windows" in each.value]

    run = next(run for run in come.runs.list_runs(lab.runs) if run.config.method == "come" and run.plan())
    asked = {"method": "come", "target": str(run.config.target_layers)}
    assert not told(visit("plan", **asked))  # the run took what is drawn
    plan = json.loads((run.path / "plan.json").read_text())
    first, last = plan["steps"][0]["window"]
    plan["steps"][0]["window"] = [first - 1, last - 1] if first else [first + 1, last + 1]
    rewrite_plan(run, plan)
    (words,) = told(visit("plan", **asked))
    made = run.plan()
    assert made is not None
    taken = kept_units.of_plan(made, describe(str(lab.model))).windows
    assert words.endswith("layers " + ", ".join(f"{one} to {other}" for one, other in taken) + ".")
