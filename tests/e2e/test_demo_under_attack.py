"""A public demonstration that one visitor attacks while others use it; and one that is used for long.

Each prints what it measured and writes it to ``build/``. Times and memory are for whoever reads that: on a busy machine
they judge nothing. ``ATTACK_MINUTES`` and ``SOAK_MINUTES`` say for how long; 5 visitors each.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pytest
from websockets.exceptions import WebSocketException

from come.runs import Run, list_runs
from tests.e2e.conftest import ROOT, Server
from tests.e2e.tab import Shown, Tab

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.attack]

PAGES = ("home", "model", "channels", "layers", "plan", "run", "compare", "inspect", "playground", "learn")
RUN = "model=smollm2-135m&text=python-docs&tokens=1024&bos=auto&method=shortgpt&target=27"
ALONE = {"rival-come": False, "rival-come-joint": False}  # without the rivals that are ticked at first
BYTES_OF_ALL = 3 << 30
LONG_ENOUGH, FLAT = 10, 1.05  # minutes, after which memory of the last third is at most so much of the middle third's
ENDED = ("done", "failed", "cancelled", "interrupted")


@dataclass
class Record:
    """What was seen: seconds of page switches, memory by time, and what went wrong."""

    switches: list[float] = field(default_factory=list)
    by_page: dict[str, list[float]] = field(default_factory=dict)
    memory: list[tuple[float, int]] = field(default_factory=list)
    processes: dict[str, int] = field(default_factory=dict)
    attacks: dict[str, int] = field(default_factory=dict)
    unanswered: int = 0
    faults: list[str] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """The figures that a reader wants."""
        ordered = sorted(self.switches) or [0.0]
        sizes = [size for _, size in self.memory] or [0]
        return {
            "page switches": len(self.switches),
            "unanswered": self.unanswered,
            "seconds, median": round(median(ordered), 2),
            "seconds, 95 of 100": round(ordered[int(0.95 * (len(ordered) - 1))], 2),
            "seconds, longest": round(ordered[-1], 2),
            "within 2 s": round(sum(each <= 2 for each in ordered) / len(ordered), 3),
            "by page, median": {page: round(median(seconds), 2) for page, seconds in self.by_page.items()},
            "memory, MiB, most": max(sizes) >> 20,
            "memory, MiB, by time": [
                [round(when), size >> 20] for when, size in self.memory[:: max(len(sizes) // 40, 1)]
            ],
            "of processes, MiB, most": {name: size >> 20 for name, size in self.processes.items()},
            "attacks": self.attacks,
            "faults": self.faults[:10],
            "load of the machine": os.getloadavg(),
        }


def memory_of(server: Server, record: Record) -> int:
    """Bytes of the server and all that it started, what they share counted once."""
    total = 0
    with suppress(psutil.Error):
        top = psutil.Process(server.process.pid)
        for process in [top, *top.children(recursive=True)]:
            with suppress(psutil.Error, AttributeError):
                size = int(process.memory_full_info().pss)
                name = "server" if process == top else " ".join(process.cmdline()[2:5])[:40]
                record.processes[name] = max(record.processes.get(name, 0), size)
                total += size
    return total


@contextmanager
def watched(server: Server, record: Record, every: float = 2.0) -> Iterator[None]:
    """Memory is written down while the block lasts."""
    over, began = threading.Event(), time.monotonic()

    def watch() -> None:
        while not over.wait(every):
            record.memory.append((time.monotonic() - began, memory_of(server, record)))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def note(record: Record, shown: Shown, page: str) -> None:
    """Write down how a page switch went."""
    if shown.ended:
        record.switches.append(shown.seconds)
        record.by_page.setdefault(page, []).append(shown.seconds)
    else:
        record.unanswered += 1
    record.faults += [f"{page}: {error}" for error in shown.errors if "fault" in error or "exception" in error]


def use(server: Server, record: Record, until: float, number: int) -> None:
    """A visitor who goes from page to page, at a person's pace."""
    draws = random.Random(number)
    with Tab(server.url, f"192.0.2.{10 + number}") as tab:
        for page in itertools.cycle(PAGES):
            if time.monotonic() > until:
                return
            note(record, tab.open(page, timeout=60), page)
            time.sleep(draws.uniform(0.5, 2.0))


def started(server: Server) -> tuple[Tab, list[Run]]:
    """A visitor who has started a run, and which runs these are."""
    before = {run.id for run in list_runs(server.runs)}
    tab = Tab(server.url)
    tab.open("run", RUN)
    tab.send(**ALONE)
    shown = tab.send(start=True)
    made = [run for run in list_runs(server.runs) if run.id not in before]
    assert made, shown.errors
    return tab, made


# --- the attacks: each is done again and again until the time is over ---------------------------------


def long_prompts(tab: Tab, _: Server) -> None:
    tab.open("playground")
    tab.send(timeout=20, prompt="long " * 1_500_000)
    tab.send(timeout=20, talk=True)


def long_links(tab: Tab, _: Server) -> None:
    windows = ",".join(f"{layer}-{layer + 1}" for layer in range(0, 40_000, 2))
    tab.open("plan", f"model=smollm2-135m&windows={windows}", timeout=20)
    tab.open("playground", "prompt=" + "a%20" * 700_000, timeout=20)
    tab.open("plan", f"model=smollm2-135m&windows=0-999999999999999&drop={'9' * 15}", timeout=20)


def storms_of_starts(tab: Tab, _: Server) -> None:
    tab.open("run", f"{RUN}&seed={random.randrange(10**6)}", timeout=20)
    tab.send(timeout=20, **ALONE)
    for _ in range(10):
        with suppress(KeyError):
            tab.post(tab.forged({"start": True}))
    shown = tab.open("run", timeout=30)
    for key in [key for key in shown.widgets if key.startswith("cancel-")]:
        tab.send(timeout=20, **{key: True})


def forged_clicks(tab: Tab, server: Server) -> None:
    for run in list_runs(server.runs):
        tab.open("run", f"run={run.id}", timeout=20)
        for key in ("resume", "delete", "stop-early", f"cancel-{run.id}", f"pack-float32-{run.id}"):
            # A name that the page would give it; the button is not shown to this visitor.
            name = f"$$ID-{'0' * 32}-{key}"
            tab.known = {**tab.known, key: tab.known.get(key, name)}
            with suppress(KeyError):
                tab.send(timeout=20, **{key: True})


def many_files(tab: Tab, _: Server) -> None:
    for number in range(30):
        tab.put(1_000_000 if number % 3 else 5_000_000, f"file-{number}-{random.random()}")


def many_tabs(_: Tab, server: Server) -> None:
    tabs: list[Tab] = []
    try:
        for _number in range(25):
            with suppress(OSError, WebSocketException):  # as many as are let in
                tabs.append(Tab(server.url))
                tabs[-1].post(tabs[-1].forged({}))
    finally:
        for each in tabs:
            each.__exit__(None, None, None)


ATTACKS = (long_prompts, long_links, storms_of_starts, forged_clicks, many_files, many_tabs)


def attack(server: Server, record: Record, until: float) -> None:
    """The visitor who attacks, each way once at least, by a connection of its own each time: the server may end one."""
    for place, each in enumerate(itertools.cycle(ATTACKS)):
        if time.monotonic() > until and place >= len(ATTACKS):
            return
        record.attacks[each.__name__] = record.attacks.get(each.__name__, 0) + 1
        with suppress(OSError, WebSocketException), Tab(server.url) as tab:
            tab.open("home", timeout=30)
            each(tab, server)


# --- ---------------------------------------------------------------------------------------------------


def report(name: str, minutes: float, record: Record) -> dict[str, Any]:
    found = {"minutes": minutes} | record.summary()
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(found, indent=1))
    print(f"\n{name}: {json.dumps(found, indent=1)}")
    return found


def together(parts: list[Callable[[], None]]) -> None:
    """Do all at once; what one of them raises is raised here."""
    errors: list[BaseException] = []

    def guarded(part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def wait_for(run: Run, minutes: float = 15.0) -> str:
    """The status that a run ends with; a generous wait, which ends a hanging test."""
    until = time.monotonic() + 60 * minutes
    while run.state().status not in ENDED and time.monotonic() < until:
        time.sleep(1)
    return run.state().status


@pytest.mark.timeout(0)
def test_one_visitor_attacks_and_the_others_lose_nothing(server: Callable[..., Server]) -> None:
    minutes = float(os.environ.get("ATTACK_MINUTES", "2"))
    serving, record = server(COME_DEMO="1"), Record()
    tabs, theirs = [], []
    for _ in range(2):  # two of the others have runs of their own
        tab, made = started(serving)
        tabs.append(tab)
        theirs += made
    marks = {run.id: run.written_state().visit for run in theirs}
    until = time.monotonic() + 60 * minutes
    with watched(serving, record):
        visitors = [lambda number=number: use(serving, record, until, number) for number in range(4)]
        together([lambda: attack(serving, record, until), *visitors])  # type: ignore[list-item]
    found = report("demo-under-attack", minutes, record)
    for tab in tabs:
        tab.__exit__(None, None, None)
    assert serving.process.poll() is None
    assert [wait_for(run) for run in theirs] == ["done"] * len(theirs)
    assert {run.id: run.written_state().visit for run in theirs} == marks
    assert len(record.attacks) == len(ATTACKS) and record.switches and not record.faults
    assert found["memory, MiB, most"] << 20 < BYTES_OF_ALL
    log = serving.log.read_text(errors="replace")
    assert "Traceback" not in log, log[-3000:]


@pytest.mark.timeout(0)
def test_five_visitors_for_long(server: Callable[..., Server]) -> None:
    minutes = float(os.environ.get("SOAK_MINUTES", "2"))
    serving, record = server(COME_DEMO="1"), Record()
    until = time.monotonic() + 60 * minutes
    with watched(serving, record):
        together([lambda number=number: use(serving, record, until, number) for number in range(5)])  # type: ignore[misc]
    found = report("soak", minutes, record)
    assert serving.process.poll() is None
    assert record.switches and not record.faults
    assert found["memory, MiB, most"] << 20 < BYTES_OF_ALL
    assert not list(Path(serving.runs).glob(".deleted-*"))
    if minutes >= LONG_ENOUGH:
        sizes = [size for _, size in record.memory]
        middle, end = (median(sizes[len(sizes) * third // 3 : len(sizes) * (third + 1) // 3]) for third in (1, 2))
        assert end < FLAT * middle, f"{middle / 2**20:.0f} MiB, then {end / 2**20:.0f}"
