"""What is said of a request and of a run: sentences, its stages, its line in a table."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import come
from app import example_runs
from app.components import run_labels
from app.components.run_words import STAGES
from app.state.choice import Choice, Draft
from come.errors import ComeError
from come.models import Facts
from come.report import card
from come.report.comparison import run_name
from come.request import RunConfig
from come.runs import Run
from come.runs.state import State

MOST = 4  # windows or layers of a plan by hand that are named


def sentence(choice: Choice, draft: Draft, facts: Facts, layers: int) -> str:
    """What a plan asks for, in one sentence (markdown)."""
    method = come.methods()[draft.method].title
    chosen = ""
    if draft.windows:
        chosen = ", merging " + ", ".join(f"{first}–{last}" for first, last in draft.windows)
    if draft.dropped:
        chosen += ", dropping " + ", ".join(map(str, draft.dropped))
    return (
        f"{method}, {facts.layers} → {layers} layers{chosen}; "
        f"calibrated on {choice.tokens:,} tokens of {_short(choice.text)}"
    )


def heading(run: Run) -> tuple[str, str]:
    """What a run is called, and the rest of what it was asked to do: nothing is said twice.

    Of several that were started under one name that is what is shared; when they were is what tells them apart.
    """
    config = run.config
    when = [] if example_runs.is_example(run) else [run_labels.origin(run)]  # of a shipped one the page says so below
    if config.name:
        shared = config.name.rpartition(" · ")[0] if config.sweep else ""
        return ", ".join([shared or config.name, *when]), request_sentence(config)
    asked, _, calibrated = request_sentence(config).partition("; ")
    return asked, " · ".join(filter(None, [calibrated[:1].upper() + calibrated[1:], *when]))


def request_sentence(config: RunConfig) -> str:
    """What a run was asked to do, in one line."""
    text = f"{config.n_tokens:,} tokens of {_short(config.text)}"
    if config.kind == "analyze":
        return f"Analysis of {_short(config.model)} over {text}"
    known = come.methods().get(config.method)
    target = (
        f"to {config.target_layers} layers"
        if config.target_layers is not None
        else f"removing at least {config.sparsity:.0%} of the parameters"
        if config.sparsity is not None
        else _by_hand(config)
    )
    return f"{known.title if known else config.method} on {_short(config.model)}, {target}; calibrated on {text}"


def result_sentence(run: Run) -> str:
    """What a finished run found, in one sentence."""
    if run.config.kind == "analyze":
        return "The analysis is done: the channels and layers pages show it."
    return card.sentence(run.results())


def stages(config: RunConfig, state: State) -> str:
    """The stages of a run as one line (markdown): done, now, to come."""
    names = [name for name in STAGES if _belongs(name, config) or name == state.stage]
    here = "load" if state.stage in ("text", "resumed") else state.stage
    now = names.index(here) if here in names else -1
    marks = (
        f"**{STAGES[name]}**" if i == now else f"{STAGES[name]} ✓" if i < now else f":gray[{STAGES[name]}]"
        for i, name in enumerate(names)
    )
    return " → ".join(marks)


def row(run: Run) -> dict[str, Any]:
    """A run as a line of the table of all runs; of one that cannot be read, its id and when it was asked for."""
    state = run.state()
    try:
        if state.status == "unreadable":
            return _unreadable(run, state)
        config, results = run.config, run.results()
    except ComeError:  # damaged between the two looks
        return _unreadable(run, run.state())
    after, method = results.get("pruned") or {}, come.methods().get(config.method)
    seconds = (state.finished or 0) - (state.started or 0) if state.finished and state.started else None
    return {
        "run": run.id,
        "name": run_name(run),
        "status": state.status,
        "method": "Analysis" if config.kind == "analyze" else method.title if method else config.method,
        "model": _short(config.model),
        "layers": after.get("layers"),
        "seed": config.seed,
        "perplexity": after.get("perplexity"),
        "seconds": seconds,
        "queued": datetime.fromtimestamp(state.created).replace(microsecond=0),
    }


def _unreadable(run: Run, state: State) -> dict[str, Any]:
    nothing = {"method": "", "model": "", "layers": None, "seed": None, "perplexity": None, "seconds": None}
    queued = datetime.fromtimestamp(state.created).replace(microsecond=0)
    return {"run": run.id, "name": run.id, "status": "unreadable", **nothing, "queued": queued}


def _belongs(stage: str, config: RunConfig) -> bool:
    if config.kind == "analyze":
        return stage in ("load", "measure")
    asked = {"evaluate": "ppl", "accuracy": "acc", "probe": "probe", "speed": "speed"}
    if stage in asked:
        return asked[stage] in config.evaluate
    return {"convert": False, "measure": False, "save": config.keep_model, "recover": bool(config.recover)}.get(
        stage, True
    )


def _by_hand(config: RunConfig) -> str:
    """What is merged and dropped of a plan by hand, or of one that went by what merges cost."""
    options = config.options
    windows = [f"{first}–{last}" for first, last in options.get("windows") or []]
    dropped = [str(layer) for layer in options.get("drop") or []]
    told = [
        f"{word} {', '.join(each[:MOST])}{'…' if len(each) > MOST else ''}"
        for word, each in (("merging", windows), ("dropping", dropped))
        if each
    ]
    return ("by measured cost" if config.windows_by_cost else "by hand") + "".join(f", {each}" for each in told)


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1]
