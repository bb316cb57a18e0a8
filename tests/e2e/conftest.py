"""A real browser and a real server, for tests that visit the page as a person would."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

import pytest

from scripts.serving import free_port
from tests.tiny import tiny_folder

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
SECOND = 1000  # in milliseconds, as Playwright counts
PATIENCE = 240 * SECOND  # that anything on a page may take: it judges nothing, it ends a test that hangs
SECONDS_TO_START = 240
SCREENSHOTS = ROOT / "build" / "screenshots"
# The theme, and pixels wide. A whole visit takes a minute or two: the second look is for `make test-slow`.
LOOKS = (("light", 1280), pytest.param(("dark", 400), marks=pytest.mark.slow))
WIDTHS = (("dark", 400), *(pytest.param(("light", width), marks=pytest.mark.slow) for width in (1000, 2560)))
in_every_look = pytest.mark.parametrize("page", LOOKS, indirect=True, ids=lambda look: f"{look[0]}-{look[1]}")
in_every_width = pytest.mark.parametrize("page", WIDTHS, indirect=True, ids=lambda look: f"{look[0]}-{look[1]}")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@dataclass(frozen=True)
class Server:
    """A page that is being served.

    Attributes:
        url: where, without a slash at the end.
        runs, home: its COME_RUNS and COME_HOME.
        log: what it printed so far.
    """

    url: str
    runs: Path
    home: Path
    process: subprocess.Popen[bytes]
    log: Path


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of a Chromium; without one the test is skipped, and in continuous integration it fails."""
    for name in (os.environ.get("CHROMIUM"), *BROWSERS):
        if path := name and shutil.which(name):
            return path
    reason = f"no browser found: set CHROMIUM, or install one of {', '.join(BROWSERS)}"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


# A module's, not the session's: while Playwright's sync API is open, asyncio.run() fails in every other test.
@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A headless browser, one for all tests of a file."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=BROWSER_ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A tab of a visitor of its own (no cookies of others); what it shows in the end is kept as a picture."""
    scheme, width = getattr(request, "param", LOOKS[0])
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    yield page
    keep(page, request.node.name)
    context.close()


def keep(page: Page, name: str) -> None:
    """Keep a picture of what a page shows, for people to look at: ``build/screenshots/NAME.png``."""
    page.screenshot(path=SCREENSHOTS / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.png")


def click_figure(page: Page, key: str, x: float, y: float) -> None:
    """Click the figure of that key where its axes have these values, wherever it has moved by then."""
    figure = page.locator(f".st-key-{key}:not([data-stale=true]) .js-plotly-plot")  # not the one before it
    figure.locator(".main-svg").first.wait_for()
    place = figure.evaluate(
        """(plot, [x, y]) => {
            const {xaxis, yaxis} = plot._fullLayout;
            return {x: xaxis._offset + xaxis.l2p(x), y: yaxis._offset + yaxis.l2p(y)};
        }""",
        [x, y],
    )
    figure.hover(position=place)
    page.wait_for_timeout(300)  # plotly takes a click where it has noticed a hover
    figure.click(position=place)


@pytest.fixture(scope="session")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where .gguf files are converted to: by the first test that needs one, for all that run with it."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "converted"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def server(tmp_path: Path, converted: Path) -> Iterator[Callable[..., Server]]:
    """Starts a server of the page: ``server(NAME="value", ...)`` adds to its environment.

    Runs and models go to ``tmp_path``, unless COME_RUNS or COME_HOME is given. The hub is not asked.
    """
    with ExitStack() as servers:
        yield lambda **environment: servers.enter_context(serve(tmp_path, environment, converted))


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all tests that only look at the shipped example: they start nothing, and change nothing."""
    with serve(tmp_path_factory.mktemp("example"), {}) as server:
        yield server


@contextmanager
def serve(
    folder: Path,
    environment: dict[str, str],
    converted: Path | None = None,
    come: Sequence[str] = (sys.executable, "-m", "come"),
    started_in: Path = ROOT,
    address: str = "127.0.0.1",
) -> Iterator[Server]:
    """What `come app` serves on a free port, from when it answers until the block ends; its runs end with it."""
    port = free_port()
    places = {"COME_HOME": str(folder / "home"), "COME_RUNS": str(folder / "runs")} | environment
    if converted is not None and not (models := folder / "home" / "models").exists():
        models.parent.mkdir()
        models.symlink_to(converted)
    log = folder / f"server-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*come, "app", "--address", address, "--port", str(port)],
            cwd=started_in,
            env={**os.environ, "HF_HUB_OFFLINE": "1", **places},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"http://127.0.0.1:{port}"
    server = Server(url, Path(places["COME_RUNS"]), Path(places["COME_HOME"]), process, log)
    try:
        _wait_until_healthy(server)
        yield server
    finally:
        _end(process)


def fetched(url: str) -> str:
    """What a server of this machine answers."""
    direct = build_opener(ProxyHandler({}))  # a proxy of the environment is not for this machine
    with direct.open(url, timeout=2) as answer:
        return str(answer.read().decode())


def _wait_until_healthy(server: Server) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            fetched(f"{server.url}/_stcore/health")
            return
        except (URLError, OSError):
            time.sleep(0.2)
    pytest.fail(f"the server did not start:\n{server.log.read_text(errors='replace')[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends the server and its runs: each is a process group of its own, so it would outlive a signal."""
    import psutil

    try:
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
    except psutil.NoSuchProcess:
        family = []
    for member in family:
        with suppress(psutil.NoSuchProcess):
            member.terminate()
    _, stubborn = psutil.wait_procs(family, timeout=10)
    for member in stubborn:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()


@pytest.fixture
def tiny_choice(tmp_path: Path) -> dict[str, str]:
    """The URL's parameters that choose a tiny model and a small text."""
    text = tmp_path / "lines.txt"
    text.write_text("\n".join(f"Line {i}: {i * i} brown foxes jump over {i % 7} lazy dogs." for i in range(600)))
    return {"model": str(tiny_folder(tmp_path)), "text": str(text), "tokens": "1024", "seq_len": "64"}
