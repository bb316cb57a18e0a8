"""A recovery in a real browser: chosen with one click, watched live, stopped early; compare shows it as a pair."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from come import runs
from tests.e2e.conftest import Server
from tests.tiny import tiny_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@pytest.mark.slow
def test_a_recovery_is_watched_and_stopped_early(server: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"Line {i}: {i * i} brown foxes jump over {i % 7} lazy dogs." for i in range(600)))
    serving = server()
    choice = {"model": str(tiny_folder(tmp_path)), "text": str(text), "tokens": "1024", "seq_len": "64"}
    page.goto(f"{serving.url}/run?{urlencode(choice | {'target': '4'})}")
    page.get_by_text("More settings").click()
    page.get_by_role("button", name="Take the default").click()
    page.get_by_role("spinbutton", name="Tokens to learn from").wait_for()
    settled(page)
    for field, value in (("Minutes of training, for each", "30"), ("Tokens to learn from", "8192")):
        page.get_by_role("spinbutton", name=field).fill(value)
        page.get_by_role("spinbutton", name=field).press("Enter")
        settled(page)
    page.get_by_role("button", name=re.compile(r"^Start \d runs")).click()

    # Live: the losses, then the end that was asked for.
    page.get_by_text("Loss of logits", exact=True).wait_for()
    page.get_by_test_id("stVegaLiteChart").first.wait_for()
    page.get_by_role("button", name="Stop early, keep the best").click()
    page.get_by_text("pruning took perplexity").first.wait_for()
    page.get_by_text("What recovery did").wait_for()
    (run,) = [run for run in runs.list_runs(serving.runs) if run.config.method == "come"]
    assert run.config.recover == ["refit", "logits"]
    plan, results = run.plan(), run.results()
    assert plan is not None and any("stopped early, the best kept" in note for note in plan.notes)
    assert results["unrecovered"]["perplexity"] != results["pruned"]["perplexity"]

    # With and without recovery, as a pair.
    page.locator(".st-key-result-card").get_by_role("link", name="Compare").click()
    page.get_by_role("heading", name="Compare", exact=True).wait_for()
    page.get_by_text("from").first.wait_for()
    chart = page.locator(".st-key-perplexity .js-plotly-plot")
    chart.wait_for()
    names = chart.evaluate("chart => chart.data.map(line => line.name)")
    assert any("refit" in str(name) for name in names), names


def settled(page: Page) -> None:
    """Wait until what was entered has been answered."""
    page.wait_for_timeout(500)
    page.wait_for_function("document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'")
