"""The report, from the run page and from the compare page; strangers have that of their own runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from app import example_runs
from app.components.report_button import LABEL, NAME
from app.server import downloads
from come.errors import ComeError
from come.runs import Run, delete, list_runs
from tests.app.conftest import Lab

Visit = Callable[..., AppTest]


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A browser at the routes of a server that has them."""
    monkeypatch.setattr(downloads, "served", True)
    return TestClient(Starlette(routes=downloads.ROUTES))


def link(at: AppTest) -> str | None:
    assert not at.exception
    return next((link.proto.url for link in at.get("link_button") if link.label == LABEL), None)


def pruned(lab: Lab) -> list[Run]:
    return [run for run in list_runs(lab.runs) if run.config.kind == "compress"]


def test_a_runs_page_sends_its_report(visit: Visit, lab: Lab, client: TestClient) -> None:
    run = pruned(lab)[0]
    address = link(visit("run", run=run.id))
    assert address is not None
    answer = client.get(address)
    assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{NAME}"
    assert run.id in answer.text and str(lab.model.parent) not in answer.text
    delete(run)
    assert client.get(address).status_code == 404


def test_an_analysis_has_none(visit: Visit, lab: Lab, client: TestClient) -> None:
    analysis = next(run for run in list_runs(lab.runs) if run.config.kind == "analyze")
    assert link(visit("run", run=analysis.id)) is None


def test_the_compare_page_sends_the_report_of_the_chosen_runs(visit: Visit, lab: Lab, client: TestClient) -> None:
    first, second = pruned(lab)
    at = visit("compare")
    both = link(at)
    assert both is not None and all(run.id in client.get(both).text for run in (first, second))
    at.multiselect(key=next(box.key for box in at.multiselect if box.label == "Leave out")).set_value([first.id]).run()
    one = link(at)
    assert one not in (None, both)
    text = client.get(one).text
    assert second.id in text and first.id not in text


def test_without_routes_streamlit_sends_it(visit: Visit, lab: Lab) -> None:
    at = visit("run", run=pruned(lab)[0].id)
    assert LABEL in [button.label for button in at.get("download_button")]


def test_in_a_demonstration_only_ones_own_runs_and_the_shipped_ones(
    visit: Visit, lab: Lab, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_DEMO", "1")
    theirs = pruned(lab)[0]
    theirs.update(visit="somebody else")
    for page, parameters in (("run", {"run": theirs.id}), ("compare", {})):
        at = visit(page, model="smollm2-135m", text="python-docs", **parameters)
        assert link(at) is None
        assert next(button for button in at.button if button.label == LABEL).disabled
    shipped = next(run for run in example_runs.runs() if run.config.kind == "compress")
    address = link(visit("run", model="smollm2-135m", text="python-docs", run=shipped.id))
    assert address is not None and shipped.id in client.get(address).text


def test_an_address_is_nothing_that_one_can_guess_and_promises_are_bounded(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "PROMISES", 2)

    def nothing() -> str:
        raise ComeError("Nothing is left.")

    first, second, third = (
        downloads.promised(make, f"{place}", "a.html", "text/html")
        for place, make in enumerate((lambda: "first", lambda: "second", nothing))
    )
    again = downloads.promised(lambda: "second", "1", "a.html", "text/html")
    assert again == second and len({first, second, third}) == 3
    assert client.get(second).text == "second"
    assert [client.get(each).status_code for each in (first, third)] == [404, 404]
    monkeypatch.setattr(downloads, "_SECRET", b"another server's")
    assert downloads.promised(lambda: "second", "1", "a.html", "text/html") != second
