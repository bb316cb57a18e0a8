"""The plan page's choices: by which method, how far, and the settings of the method."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

import come
from app.components import method_options
from app.plan import as_text, edits, fit, window_editor
from app.state import foreseen, session, visit
from app.state.choice import DEFAULT_SPARSITY, OF_A_CHOICE, Draft, by_hand
from come.errors import ComeError
from come.models import Facts
from come.pruning.forecast import Forecast
from come.pruning.registry import takes_windows

AIMS = {"layers": "Layers", "share": "Parameters", "hand": "By hand"}


def draw(facts: Facts, found: Forecast | None) -> None:
    """Method, aim, the windows where they are chosen by hand, and the method's settings."""
    _method()
    _aim(facts, found)
    fit.draw(facts)
    if session.draft().windows is not None:
        window_editor.draw(facts, found.windows if found else [])
    _settings()
    as_text.draw(facts)


def _method() -> None:
    methods = come.methods()
    draft = session.draft()
    if draft.method not in methods:
        session.set_draft(Draft())
        draft = session.draft()
    session.put("method-choice", draft.method)
    method = methods[draft.method]
    st.selectbox(
        "Method",
        list(methods),
        key="method-choice",
        format_func=lambda name: methods[name].title,
        on_change=lambda: session.set_draft(_with_method(session.draft(), session.value("method-choice"))),
        help=f"{method.summary} {method.paper}".strip(),
    )


def _with_method(draft: Draft, method: str) -> Draft:
    if draft.windows is not None and takes_windows(method):
        ratios = draft.ratios if "ratios" in come.methods()[method].defaults() else None
        return Draft(method=method, windows=draft.windows, ratios=ratios, dropped=draft.dropped)
    layers = foreseen.layers_left(draft, visit.facts()) if draft.windows is not None else draft.target_layers
    return Draft(method=method, target_layers=layers, sparsity=draft.sparsity)


def _aim(facts: Facts, found: Forecast | None) -> None:
    draft = session.draft()
    aim = "hand" if draft.windows is not None else "layers" if draft.target_layers is not None else "share"
    # What is foreseen of a method can be gone on with by hand.
    aims = [name for name in AIMS if name != "hand" or takes_windows(draft.method) or found]
    session.put("aim", aim)
    st.segmented_control(
        "Decide by",
        aims,
        key="aim",
        format_func=AIMS.__getitem__,
        required=True,
        on_change=_set_aim,
        args=(facts, found),
    )
    if aim == "layers":
        session.put("target", draft.target_layers)
        st.slider(
            f"Layers left of {facts.layers}",
            min(1, draft.target_layers),
            max(facts.layers, draft.target_layers, 2),
            key="target",
            on_change=lambda: session.set_draft(replace(session.draft(), target_layers=session.value("target"))),
        )
        fit.reason()
    elif aim == "share":
        most = int(100 * (facts.layers - 1) * facts.layer_parameters / facts.parameters)
        share = round(100 * (DEFAULT_SPARSITY if draft.sparsity is None else draft.sparsity))
        session.put("share", share)
        st.slider(
            "Remove at least",
            min(0, share),
            max(most, share),
            key="share",
            format="%d%%",
            help="The share of all parameters, embeddings counted once when they are tied.",
            on_change=lambda: session.set_draft(replace(session.draft(), sparsity=session.value("share") / 100)),
        )


def _set_aim(facts: Facts, found: Forecast | None) -> None:
    draft, aim = session.draft(), session.value("aim")
    if aim == "hand":
        found = found or Forecast()
        session.set_draft(by_hand(draft, edits.chosen(found), dropped=found.removed))
        return
    blank = replace(draft, windows=None, ratios=None, dropped=(), target_layers=None, sparsity=None)
    try:
        layers = foreseen.layers_left(session.draft(), facts)
    except ComeError:
        layers = facts.layers
    if aim == "layers":
        session.set_draft(replace(blank, target_layers=min(max(layers, 1), facts.layers)))
    else:
        session.set_draft(replace(blank, sparsity=DEFAULT_SPARSITY))


def _settings() -> None:
    draft = session.draft()
    kind = come.methods()[draft.method].options
    skip = OF_A_CHOICE if draft.windows is not None else ()
    if not [option for option in method_options.drawn(kind) if option.name not in skip]:
        return

    def change(name: str, value: object) -> None:
        now = session.draft()
        session.set_draft(replace(now, options=method_options.changed(kind, now.options, name, value)))

    with st.expander("Settings of the method"):
        method_options.draw(kind, draft.options, change, skip)
