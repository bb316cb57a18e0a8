"""The run page in a real browser: the card, downloads while something runs, a plan taken up again, the time told."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from come.request import RunConfig
from come.runs import Run, create, execute
from tests.e2e.conftest import SECOND, Server, in_every_look

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def finished(serving: Server, choice: dict[str, str]) -> Run:
    """A finished run of the choice, made without the page."""
    fields = {"n_tokens": 1024, "seq_len": 64, "evaluation_tokens": 256, "target_layers": 4, "method": "come"}
    run = create(RunConfig(model=choice["model"], text=choice["text"], **fields), serving.runs)
    execute(run)
    return run


@in_every_look
def test_a_result_is_a_card_and_its_plan_comes_back(
    server: Callable[..., Server], page: Page, tiny_choice: dict[str, str], tmp_path: Path
) -> None:
    serving = server()
    run = finished(serving, tiny_choice)
    waiting = create(run.config, serving.runs)  # at work or waiting, as far as the page knows
    assert waiting.state().active
    page.goto(f"{serving.url}/run?run={run.id}")
    card = page.locator(".st-key-result-card")
    card.get_by_text("6 layers became 4").wait_for()
    for said in ("Before", "After", "Perplexity", "Accuracy, Speed", "Parameters"):
        card.get_by_text(said, exact=True).first.wait_for()
    assert "6 → 4 layers" in page.locator(".come-strip").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")

    # While a run waits the page looks again and again: a download works all the same, now and later.
    plan = (run.path / "plan.json").read_bytes()
    assert downloaded(page, "Download the plan") == plan
    page.wait_for_timeout(5 * SECOND)
    assert downloaded(page, "Download the plan") == plan

    card.get_by_role("button", name="Edit this plan").click()
    page.wait_for_url(re.compile("/plan.*windows="))
    windows = re.search("windows=([^&]*)", page.url)
    assert windows is not None

    # On the plan page: what fails is said where the click was; what was downloaded is taken up again.
    page.goto(f"{serving.url}/plan?{urlencode(tiny_choice | {'target': '5'})}")
    page.get_by_text("6 → 5 layers").wait_for()
    document = tmp_path / "request.json"
    document.write_bytes(downloaded(page, "Download"))
    assert json.loads(document.read_text())["target_layers"] == 5
    upload = page.get_by_role("button", name="Upload")
    upload.click()
    field = page.locator(".st-key-upload input[type=file]")
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    field.set_input_files(broken)
    popover = page.get_by_test_id("stPopoverBody")
    popover.get_by_text("This file is not JSON").wait_for()
    field.set_input_files(run.path / "plan.json")
    page.get_by_text("6 → 4 layers").first.wait_for()
    page.wait_for_url(re.compile(f"windows={windows[1]}"))


def test_an_unknown_run_is_said_to_be_unknown(server: Callable[..., Server], page: Page) -> None:
    serving = server()
    page.goto(f"{serving.url}/run?run=no-such-run")
    page.get_by_text("There is no run “no-such-run” here").wait_for()
    page.get_by_role("button", name=re.compile("^Start")).wait_for()


def test_what_is_told_of_a_run_at_work_is_neither_all_nor_nothing(
    server: Callable[..., Server], page: Page, tiny_choice: dict[str, str]
) -> None:
    serving = server()
    page.goto(f"{serving.url}/run?{urlencode(tiny_choice | {'target': '4', 'method': 'come'})}")
    page.get_by_role("button", name="Start 3 runs").click()
    told: list[str] = []
    page.get_by_text("runs started together").first.wait_for()
    while page.get_by_text("You may leave this page").count() and len(told) < 400:
        told += page.locator("[data-testid=stProgress]").all_inner_texts()
        page.wait_for_timeout(SECOND / 4)
    assert told and not any("100%" in words or re.search(r"about 0 s", words) for words in told), told
    page.get_by_text("6 layers became 4").wait_for()


def downloaded(page: Page, name: str) -> bytes:
    """What the link of that name sends."""
    link = page.get_by_role("link", name=name).first
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    return Path(download.value.path()).read_bytes()
