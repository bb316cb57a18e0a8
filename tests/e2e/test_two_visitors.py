"""Two browsers at once, each with a model of its own: neither sees anything of the other's."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import pytest

from tests.e2e.conftest import PATIENCE, Server
from tests.tiny import tiny_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.browser


@pytest.fixture
def other(browser: Browser) -> Iterator[Page]:
    """A tab in a browser of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE)
    yield context.new_page()
    context.close()


@pytest.mark.slow
def test_two_models_do_not_mix(server: Callable[..., Server], page: Page, other: Page, tmp_path: Path) -> None:
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"Line {i}: {i * i} brown foxes jump over {i % 7} lazy dogs." for i in range(600)))
    serving = server()
    choices = []
    for name, layers in (("few", 5), ("many", 7)):
        folder = tmp_path / name
        folder.mkdir()
        choices.append({"model": str(tiny_folder(folder, layers=layers)), "text": str(text)})
    addresses = [
        f"{serving.url}/plan?{urlencode(choice | {'tokens': '1024', 'seq_len': '64', 'windows': '1-2'})}"
        for choice in choices
    ]
    visitors = (page, other)

    # Both ask at once; then both change their plan at once.
    for visitor, address in zip(visitors, addresses, strict=True):
        visitor.goto(address, wait_until="commit")
    first = [predicted(visitor, layers) for visitor, layers in zip(visitors, (5, 7), strict=True)]
    for visitor in visitors:
        visitor.get_by_label("Last layer", exact=True).fill("3")
        visitor.get_by_label("Last layer", exact=True).press("Enter")
    for visitor, before in zip(visitors, (4, 6), strict=True):
        visitor.get_by_text(f"Against CoMe, {before} layers").wait_for()

    # The other's address gives the other's answer, as it was.
    for visitor, address in zip(visitors, reversed(addresses), strict=True):
        visitor.goto(address)
    swapped = [predicted(visitor, layers) for visitor, layers in zip(visitors, (7, 5), strict=True)]
    assert swapped == first[::-1] and first[0] != first[1]

    # Each one's own choice follows from page to page.
    for visitor, layers in zip(visitors, (7, 5), strict=True):
        visitor.get_by_test_id("stSidebarNav").get_by_role("link", name="Layers", exact=True).click()
        visitor.get_by_role("heading", name="Layers", exact=True).wait_for()
        assert visitor.get_by_text(re.compile(rf"{layers} → {layers - 1} layers")).count() == 1


def predicted(visitor: Page, layers: int) -> str:
    """The sentence of the prediction, for a model of so many layers less one."""
    visitor.get_by_text(f"{layers} → {layers - 1} layers").wait_for()
    finding = visitor.locator("p.come-finding", has_text="Predicted perplexity")
    finding.wait_for()
    return finding.inner_text()
