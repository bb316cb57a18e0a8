"""The demo: CoMe-Joint beside CoMe and ShortGPT on the bundled model, small enough to wait for."""

from __future__ import annotations

import time

import come
import come.runs
from app.state import session
from app.state.choice import Choice, Draft
from come.models.catalogue import BUNDLED
from come.request import RunConfig
from come.runs import Run, as_sweep
from come.serving import limits

CHOICE = Choice(model=BUNDLED, tokens=2048)
DRAFT = Draft(target_layers=27)
METHODS = {
    "come-joint": "merges one window, by its cost (ours)",
    "come": "pair after pair, by the angle",
    "shortgpt": "removes layers",
}  # and what each does


def requests(sweep: str = "") -> list[RunConfig]:
    """The demo's runs: all methods from 30 to 27 layers, judged by perplexity, plans only."""
    shared = {
        "model": CHOICE.model,
        "text": CHOICE.text,
        "n_tokens": CHOICE.tokens,
        "seq_len": CHOICE.seq_len,
        "target_layers": DRAFT.target_layers,
        "keep_model": False,
    }
    titles = come.methods()
    cells = [shared | {"method": method, "name": f"Demo · {titles[method].title}"} for method in METHODS]
    return as_sweep([RunConfig.model_validate(cell) for cell in cells], sweep)


def active_run() -> Run | None:
    """The first run of a demo that is at work or waits, if there is one."""
    active = [run for run in come.runs.list_runs()[:20] if run.state().active]
    return next((run for run in reversed(active) if run.config.sweep.startswith("demo-")), None)


def start() -> list[Run]:
    """Start it anew and return its runs, CoMe-Joint's first.

    Raises:
        ComeError: the bundled model is not there, or too many wait already.
    """
    whose = session.visit()
    made = come.runs.prepare(requests(f"demo-{int(time.time())}"), allowed=limits.current(), visit=whose)
    come.runs.launch(*made)
    return made
