"""Every page by axe-core's rules for WCAG 2 A and AA, in light, in dark and narrow; and by the keyboard alone.

Everything is the shipped example, so that no model is loaded. What axe-core does not see is looked at here: words
inside of charts. A click on a chart is never the only way: the layer, channel or cell that it opens has a field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import Server, keep

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

PAGES = ("home", "model", "channels", "layers", "plan", "run", "compare", "inspect", "playground", "learn")
BY_HAND = "plan?windows="  # none yet: a window would be predicted at once, which loads the model
BY_KEYBOARD = ("plan", BY_HAND, "inspect", "learn")
AT_ONCE = ("home", "plan")  # the others are looked at with the slow tests
MOST_STOPS = 400  # of the keyboard on a page
WIDE, NARROW = 1280, 400
LOOKS = (("light", WIDE), ("dark", WIDE), ("dark", NARROW))

# What lies inside of Streamlit's own widgets, or is no fault: the element, and why it is left out.
LEFT_OUT = {
    'label[data-testid="stWidgetLabel"][disabled]': "WCAG 1.4.3 leaves out what is disabled; axe misses that this is",
}
RULES = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"],
    "rules": {"heading-order": {"enabled": True}, "page-has-heading-one": {"enabled": True}},
    "resultTypes": ["violations"],
}

SETTLED = """() => document.querySelector('h1')
    && document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'
    && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')
    && [...document.querySelectorAll('[data-testid=stPlotlyChart]')].every(chart => chart.querySelector('.main-svg'))"""

# Words that a figure writes on the page's ground, with a contrast to it below 4.5.
FAINT = """() => {
    const canvas = document.createElement('canvas');
    canvas.width = canvas.height = 1;
    const brush = canvas.getContext('2d', {willReadFrequently: true});
    const ground = getComputedStyle(document.querySelector('.stApp')).backgroundColor;
    const light = (color, opacity) => {
        brush.globalAlpha = 1; brush.fillStyle = ground; brush.fillRect(0, 0, 1, 1);
        brush.globalAlpha = opacity; brush.fillStyle = color; brush.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...brush.getImageData(0, 0, 1, 1).data].map(
            part => part / 255 <= .04045 ? part / 255 / 12.92 : ((part / 255 + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b + .05;
    };
    const back = light(ground, 1);
    const layers = '.xaxislayer-above, .xaxislayer-below, .yaxislayer-above, .yaxislayer-below, .infolayer';
    return [...document.querySelectorAll('.js-plotly-plot text')].filter(text => {
        const style = getComputedStyle(text);
        const written = text.textContent.trim() && text.getClientRects().length && style.visibility !== 'hidden';
        if (!written || !(text.closest(layers) || text.style.fill === 'INK')) return false;
        const front = light(style.fill, style.fillOpacity * style.opacity);
        return Math.max(front, back) / Math.min(front, back) < 4.5;
    }).map(text => text.textContent);
}"""

# The widgets of the page itself that can be used, each marked with its place; gives how many there are.
MARK_WIDGETS = """() => {
    const kinds = ['Button', 'ButtonGroup', 'Checkbox', 'DataFrame', 'DownloadButton', 'FileUploader', 'MultiSelect',
        'NumberInput', 'PageLink', 'Popover', 'Selectbox', 'Slider', 'TextArea', 'TextInput', 'Expander'];
    const use = 'button, input, textarea, a[href], summary, canvas, [role=slider]';
    const found = [...document.querySelectorAll(kinds.map(kind => `.stMain [data-testid=st${kind}]`).join())].filter(
        widget => widget.getClientRects().length
            && [...widget.querySelectorAll(use)].some(each => !each.disabled && !each.closest('[aria-disabled=true]')));
    found.forEach((widget, place) => widget.dataset.place = place);
    return found.map(widget => `${widget.dataset.testid}: ${widget.innerText.split('\\n')[0]}`);
}"""
FOCUSED = """() => {
    const places = [];
    for (let each = document.activeElement; each; each = each.parentElement)
        if (each.dataset.place !== undefined) places.push(+each.dataset.place);
    return [document.activeElement === document.body, places];
}"""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in AT_ONCE else pytest.mark.slow) for name in (*PAGES, BY_HAND)]
)
def test_axe_finds_nothing(example: Server, page: Page, name: str) -> None:
    faults = []
    page.emulate_media(color_scheme="light")
    open_page(page, example, name)
    for scheme, width in LOOKS:
        look(page, scheme, width)
        keep(page, f"{name} {scheme} {width}")
        where = f"{scheme}, {width} px: "
        faults += [where + fault for fault in violations(page)]
        faults += [f"{where}faint in a figure: {word}" for word in faint(page)]
        if page.evaluate("document.querySelector('.stMain').scrollWidth") > width:
            faults.append(f"{where}runs over the side")
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_words_on_the_accent_are_legible_outside_of_the_page_too(example: Server, page: Page) -> None:
    """Popovers hang outside of the element to which Streamlit gives a colour scheme."""
    page.emulate_media(color_scheme="dark")
    open_page(page, example, "compare")
    page.get_by_role("button", name="Choose runs").click()
    page.get_by_role("combobox", name="Methods").click()
    page.get_by_role("option").first.click()
    page.locator("[data-testid=stPopoverBody] [data-tag]").first.wait_for()
    settled(page)
    assert violations(page) == []


@pytest.mark.parametrize("name", BY_KEYBOARD)
def test_tab_reaches_every_widget(example: Server, page: Page, name: str) -> None:
    open_page(page, example, name)
    closed = page.locator(".stMain details:not([open]) > summary")
    while closed.count():
        closed.first.press("Enter")
    settled(page)
    widgets: list[str] = page.evaluate(MARK_WIDGETS)
    assert len(widgets) > 3
    page.get_by_role("heading", level=1).click()
    reached: set[int] = set()
    for _ in range(MOST_STOPS):
        page.keyboard.press("Tab")
        left, places = page.evaluate(FOCUSED)
        reached |= set(places)
        if left:
            break
    assert [widget for place, widget in enumerate(widgets) if place not in reached] == []


# --- small steps -------------------------------------------------------------------------------------


def open_page(page: Page, example: Server, address: str) -> None:
    page.goto(f"{example.url}/{address}")
    settled(page)
    assert page.get_by_text("met a fault of ours").count() == 0


def settled(page: Page) -> None:
    """Wait until the script has ended and every figure is drawn."""
    page.wait_for_function(SETTLED)
    page.wait_for_timeout(300)


def look(page: Page, scheme: str, width: int) -> None:
    """Show the page in light or dark, so wide, and in its whole height: axe looks at what is on the screen."""
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": width, "height": 900})
    page.wait_for_function(
        "scheme => getComputedStyle(document.querySelector('.stApp')).colorScheme === scheme", arg=scheme
    )
    settled(page)
    height = page.evaluate("document.querySelector('.stMain').scrollHeight")
    page.set_viewport_size({"width": width, "height": height})
    settled(page)


def violations(page: Page) -> list[str]:
    """What axe finds, a line an element."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page, context={"exclude": [[element] for element in LEFT_OUT]}, options=RULES)
    return [
        f"{fault['id']}: {node['html'][:160]} ({(node['any'] or node['all'] or node['none'])[0]['message']})"
        for fault in found.response["violations"]
        for node in fault["nodes"]
    ]


def faint(page: Page) -> list[str]:
    """Words in figures that are hard to read; a figure may still be taking on the theme."""
    from app.theme import INK

    ink = f"rgb({', '.join(str(int(INK[place : place + 2], 16)) for place in (1, 3, 5))})"
    script = FAINT.replace("INK", ink)
    for _ in range(20):
        if not (words := page.evaluate(script)):
            return []
        page.wait_for_timeout(250)
    return list(words)
