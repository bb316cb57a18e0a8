"""What is known about a visitor's choice: the model's facts, its analysis, the runs of the plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import come
import come.runs
from app import example_runs
from app.state import cached, foreseen, request, session
from app.state.choice import Draft, by_hand, comparable, plan_fields
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning import kept_units
from come.pruning.forecast import Forecast
from come.pruning.kept_units import KeptByLayer, KeptUnits
from come.pruning.registry import fits_windows
from come.pruning.windows import WindowCost
from come.request import Asked, RunConfig, anchored_path, anchored_text
from come.runs import Run
from come.runs.analyses import begins_alike
from come.serving import limits

_RUNS_LOOKED_AT = 50
_ASKED = "_layers-chosen-for"
_EDITED = "_last-window-edit"


def facts() -> Facts:
    """The facts of the chosen model, read without its weights.

    Raises:
        come.ComeError: the model is unknown or cannot be read, or it or the chosen text is not offered here.
    """
    chosen, allowed = session.choice(), limits.current()
    allowed.check_model(chosen.model)
    allowed.check_text(chosen.text)
    return cached.facts(chosen.model)


def analysis() -> tuple[Measurement | None, Facts, bool, Run | None]:
    """The newest finished analysis for the choice.

    Returns:
        (measurement or None, facts of the model, whether it is the shipped example, its run or None).

    Raises:
        come.ComeError: the model is unknown or cannot be read.
    """
    chosen, known = session.choice(), facts()
    run = come.runs.analysis_for(chosen.model, chosen.text, chosen.tokens, chosen.seq_len, chosen.seed, bos=chosen.bos)
    run = run or example_runs.run_for(chosen.model)
    if run is None:
        return None, known, False, None
    measured = cached.measurement(run)
    if len(measured.block_influence) != known.layers:  # of another model, from before runs kept what tells them apart
        return None, known, False, None
    return measured, known, example_runs.is_example(run), run


def measurement() -> Measurement | None:
    """What that analysis measured."""
    return analysis()[0]


def costs() -> tuple[WindowCost, ...]:
    """What merging windows was measured to cost on the chosen tokens; nothing where the analysis is of others."""
    return _costs(analysis()[3])


def listed_costs() -> Sequence[WindowCost]:
    """What merging windows was measured to cost by the analysis that is shown, whichever tokens that is of."""
    run = analysis()[3]
    return () if run is None else cached.window_costs(run)


def _costs(run: Run | None) -> tuple[WindowCost, ...]:
    if run is None:
        return ()
    chosen, config = session.choice(), run.config
    wanted = (anchored_text(chosen.text), chosen.tokens, chosen.seq_len, chosen.seed)
    if (config.text, config.n_tokens, config.seq_len, config.seed) != wanted:
        return ()
    if not begins_alike(run, config, chosen.bos):
        return ()
    return cached.window_costs(run)


def planned() -> Draft:
    """The visitor's plan as it is run: see `foreseen.settled`."""
    draft = session.draft()
    if draft.windows is not None or not fits_windows(draft.method):
        return draft
    measured, known, _, run = analysis()
    return foreseen.settled(draft, measured, known, _costs(run))


def requested(**more: Any) -> RunConfig:
    """The request of the choice and of the plan as it is run; `more` are other fields of it.

    Raises:
        come.ComeError: a field has a value that it cannot have.
    """
    plan = planned()
    by_cost = session.draft().windows is None and plan.windows is not None
    return request.config(session.choice(), plan, windows_by_cost=by_cost, asked=asked(), **more)


def keep_asked(chosen_for: Asked) -> None:
    """Remember what the plan's layers were chosen for, as long as it leaves so many of this model."""
    session.put(_ASKED, (session.choice().model, session.draft().target_layers, chosen_for))


def asked() -> Asked | None:
    """What the plan's layers were chosen for; None where they were chosen otherwise."""
    model, layers, chosen_for = session.value(_ASKED) or ("", None, None)
    fits = layers is not None and (model, layers) == (session.choice().model, session.draft().target_layers)
    return chosen_for if fits else None


def analysis_run() -> Run | None:
    """The analysis of the choice that is waiting or running now, if there is one."""
    run = last_analysis()
    return run if run is not None and run.state().active else None


def last_analysis() -> Run | None:
    """The newest analysis of the choice, however it ended."""
    return _newest("analyze", lambda config: True)


def start_analysis(config: RunConfig) -> None:
    """Start the run of a request, as this visitor's.

    Raises:
        come.ComeError: it cannot start.
    """
    run = come.runs.create(config, allowed=limits.current(), visit=session.visit())
    come.runs.launch(run)


def run_of_draft() -> Run | None:
    """The newest pruning run that was asked for exactly this choice and this plan."""
    wanted = plan_fields(planned())
    return _newest(
        "compress",
        lambda config: (
            {
                "method": config.method,
                "target_layers": config.target_layers,
                "sparsity": config.sparsity,
                "options": comparable(config.options),
            }
            == wanted
        ),
    )


def _newest(kind: str, fits: Callable[[RunConfig], bool]) -> Run | None:
    """The newest run of a kind for the choice whose config fits."""
    chosen = session.choice()
    wanted = (
        anchored_path(chosen.model),
        anchored_text(chosen.text),
        chosen.tokens,
        chosen.seq_len,
        chosen.seed,
    )
    for run in come.runs.list_runs()[:_RUNS_LOOKED_AT]:
        try:
            config = run.config
        except ComeError:
            continue  # a directory that holds no run of this version
        key = (config.model, config.text, config.n_tokens, config.seq_len, config.seed)
        alike = config.kind == kind and key == wanted and fits(config) and begins_alike(run, config, chosen.bos)
        if alike and run.sources_unchanged():
            return run
    return None


def units_kept(measured: Measurement | None, facts: Facts) -> KeptByLayer | None:
    """Which units the visitor's plan keeps: read off its finished run, else foreseen; None where only a run tells."""
    run = run_of_draft()
    try:
        plan = run.plan() if run is not None and run.state().status == "done" else None
        if plan is not None and plan.base.layers == facts.layers:
            return kept_units.of_plan(plan, facts)
        return foreseen.units_kept(session.draft(), measured, facts, session.choice().seed, costs())
    except ComeError:
        return None  # the plan page and the strip say what is wrong with it


def as_run(found: Forecast | None, facts: Facts) -> Forecast | None:
    """What is foreseen of the visitor's plan, with the units that its finished run kept, where that merged the same."""
    kept = units_kept(None, facts) if found is not None and found.fitted else None
    if (
        found is None
        or kept is None
        or not kept.exact
        or kept.windows != [(each.first, each.last) for each in found.windows]
    ):
        return found
    whole = KeptUnits(list(range(facts.intermediate_size)), list(range(facts.num_key_value_heads)))
    windows = []
    for each in found.windows:
        units = [kept.layers.get(layer, whole) for layer in range(each.first, each.last + 1)]
        channels = [of.channels for of in units]
        ratio = tuple(len(of) / facts.intermediate_size for of in channels)
        windows.append(replace(each, ratio=ratio, kept_kv=[of.kv_groups for of in units], kept_channels=channels))
    return replace(found, windows=windows, doubt="")


def windows_of_run(facts: Facts) -> list[tuple[int, int]]:
    """The windows of original layers that the finished run of the visitor's plan merged; empty where there is none."""
    run = run_of_draft()
    if run is None or run.state().status != "done":
        return []
    try:
        plan = run.plan()
    except ComeError:
        return []
    return kept_units.of_plan(plan, facts).windows if plan is not None and plan.base.layers == facts.layers else []


def shown_plan() -> Draft:
    """The plan that is shown, by hand: an automatic one as the windows and dropped layers that it comes to."""
    draft = session.draft()
    if draft.windows is not None:
        return draft
    measured, known, *_ = analysis()
    kept = units_kept(measured, known)
    if kept is None:  # only a run tells
        return by_hand(draft, [])
    inside = {layer for group in kept.groups for layer in range(group[0], group[-1] + 1)}
    return by_hand(draft, kept.windows, dropped=[layer for layer in range(known.layers) if layer not in inside])


def remove_window(first: int, last: int) -> None:
    """Take one window out of the plan that is shown; of an automatic one the others stay, by hand."""
    old = shown_plan()
    kept = [i for i, window in enumerate(old.windows or []) if window != (first, last)]
    ratios = [old.ratios[i] for i in kept] if old.ratios else None
    session.set_draft(replace(old, windows=[(old.windows or [])[i] for i in kept], ratios=ratios))
    _keep_edited(f"Took {first}–{last} out of your plan.")


def add_window(first: int, last: int) -> None:
    """Add the layers first..last (inclusive, original numbering) to the plan that is shown, as one merge.

    Windows that it overlaps and dropped layers in it give way: the newest wish counts. A target set
    before is let go, since windows chosen by hand decide the depth themselves.
    """
    old = shown_plan()
    kept = [i for i, (a, b) in enumerate(old.windows or []) if b < first or a > last]
    chosen = [(old.windows or [])[i] for i in kept] + [(first, last)]
    ratios = None
    if old.ratios is not None:
        ratios = [old.ratios[i] for i in kept] + [_automatic_ratio(first, last)]
    order = sorted(range(len(chosen)), key=chosen.__getitem__)
    session.set_draft(
        by_hand(
            old,
            [chosen[i] for i in order],
            [ratios[i] for i in order] if ratios is not None else None,
            [layer for layer in old.dropped if not first <= layer <= last],
        )
    )
    gone = overlapping(first, last, old.windows or [])
    _keep_edited(f"{first}–{last} replaced {gone}." if gone else f"Added {first}–{last}.")


def take_only(first: int, last: int) -> None:
    """Make the plan the merge of the layers first..last alone, by hand."""
    session.set_draft(by_hand(session.draft(), [(first, last)]))
    _keep_edited(f"Your plan is {first}–{last} alone.")


def overlapping(first: int, last: int, windows: Sequence[tuple[int, int]]) -> str:
    """The windows that these layers overlap, in words; "" where there are none."""
    return " and ".join(f"{a}–{b}" for a, b in _overlapped(first, last, windows))


def replaced(first: int, last: int, windows: Sequence[tuple[int, int]]) -> str:
    """What a button says that adds these layers where windows give way: "Replace 10–18"; "" where none does."""
    names = [f"{a}–{b}" for a, b in _overlapped(first, last, windows)]
    return f"Replace {names[0] if len(names) == 1 else f'{len(names)} windows'}" if names else ""


def _overlapped(first: int, last: int, windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in windows if a <= last and first <= b and (a, b) != (first, last)]


def _keep_edited(sentence: str) -> None:
    session.put(_EDITED, (session.draft(), sentence))


def edited() -> str:
    """What the last window that was added or taken out did, as a sentence; "" once the plan is another."""
    left, sentence = session.value(_EDITED) or (None, "")
    return sentence if left == session.draft() else ""


def _automatic_ratio(first: int, last: int) -> tuple[float, ...]:
    """The shares that CoMe would choose for one window; equal ones where nothing was measured."""
    measured, known, *_ = analysis()
    if measured is None:
        return tuple([1 / (last - first + 1)] * (last - first + 1))
    return come.draft(measured, windows=[(first, last)], model=known)[0].ratio
