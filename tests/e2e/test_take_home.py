"""Home in a real browser, and a model taken home: prepared, sent from the disk, checked; and as a GGUF file."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from come.request import RunConfig
from come.runs import create, execute
from tests.e2e.conftest import Server, in_every_look
from tests.ggufs import gguf_folder

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser


@in_every_look
def test_a_visit_lands_on_home(server: Callable[..., Server], page: Page) -> None:
    serving = server()
    page.goto(serving.url)
    page.get_by_role("button", name=re.compile("^Run the .*demo")).wait_for()
    page.locator(".js-plotly-plot").first.wait_for()
    page.get_by_text("Guided tour").click()
    page.get_by_text("9. Learn").wait_for()
    assert page.url.startswith(f"{serving.url}/home")
    assert page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


@pytest.mark.slow
@in_every_look
def test_a_model_is_taken_home(server: Callable[..., Server], page: Page, tmp_path: Path) -> None:
    serving = server()
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"Line {i}: {i * i} brown foxes jump over {i % 7} lazy dogs." for i in range(400)))
    fields = {"n_tokens": 512, "seq_len": 64, "evaluation_tokens": 256, "target_layers": 3}
    request = RunConfig(model=str(gguf_folder(tmp_path)), text=str(text), keep_model=False, **fields)
    run = create(request, serving.runs)
    execute(run)
    page.goto(f"{serving.url}/run?run={run.id}")
    packed = run.path / "takeaway" / f"{run.id}-float32.zip"
    with page.expect_download() as download:  # by one press
        page.get_by_role("button", name="Download the model").click()
    assert download.value.suggested_filename == packed.name
    assert Path(download.value.path()).read_bytes() == packed.read_bytes()
    assert downloaded(page, packed.name) == packed.read_bytes()
    page.get_by_role("button", name="Check in plain Transformers").click()
    page.get_by_text("It reloads in plain Transformers").wait_for()

    # The same as a GGUF file: its panel takes the other's place.
    page.get_by_role("radio", name="GGUF file").click()
    page.get_by_role("radio", name="q8_0, 8 bits").wait_for()
    page.get_by_role("button", name="Download the model").click()
    sent = downloaded(page, f"{run.id}-float16.gguf")
    assert sent[:4] == b"GGUF"
    assert sent == (run.path / "takeaway" / f"{run.id}-float16.gguf").read_bytes()


def downloaded(page: Page, name: str) -> bytes:
    """What the link of a packed model sends, once it is there."""
    link = page.locator(f"a[href$='{name}']")
    link.wait_for()
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename == name
    return Path(download.value.path()).read_bytes()
