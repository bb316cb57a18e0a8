"""Choose what to merge and how far, and see what stays of each layer before anything runs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pandas as pd
import streamlit as st

import come.merge
import come.models
import come.runs
from app import comparison, example, foreseen, options, planning, request, session, visit, widgets, window_editor
from app.choice import Draft
from app.figures import compare as compare_figures
from app.figures import plan as plan_figures
from come.errors import ComeError
from come.measure import Measurement
from come.merge import DraftWindow
from come.models import Facts

HOW = r"""
**Which layers.** The window of lowest skip block influence goes first: how far $m$ layers turn the hidden state,
$$\mathrm{SBI}_{l,m} = \operatorname{mean}_t \arccos\bigl(\cos(H^{(l)}_t, H^{(l+m)}_t)\bigr) / \pi$$

**How much of each.** In proportion to block influence to the power $p$ (1 by default), $r_l \propto \mathrm{BI}_l^p$,
$$\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$

**Which channels.** Those of highest sensitivity; attention by whole key/value groups, so that every query head
keeps its own.
$$S_j = \operatorname{mean}_t |x_{tj}| \cdot \textstyle\sum_i |W_{ij}|$$
"""

AIMS = {"layers": "Layers", "share": "Parameters", "hand": "By hand"}


def page() -> None:
    st.title("Plan")
    measured, facts, is_example, _ = visit.analysis()
    if not facts.supported:
        widgets.empty_state("This model cannot be pruned here", facts.reason, "model", "Choose another model")
        return
    windows, fault = _foreseen(measured, facts)
    _toolbar(measured, facts)
    controls, picture = st.columns([1, 2.5], gap="large")
    with controls:
        _method()
        _aim(facts, windows)
        if session.draft().windows is not None:
            window_editor.draw(facts, windows)
        _settings()
    with picture:
        problem = session.take_problem() or fault
        if problem:
            st.error(problem, icon=":material/error:")
        _outcome(facts, fault)
        if not fault:
            wanted = request.config(session.choice(), visit.config_of_draft())
            widgets.expected(foreseen.cost([wanted], facts, measured))
        if not fault:
            _kept(measured, facts, is_example, windows)
        _end(fault)
        if not fault:
            _sizes(facts)


def _foreseen(measured: Measurement | None, facts: Facts) -> tuple[list[DraftWindow], str]:
    """What each merge would keep, and the sentence if the plan cannot be."""
    draft = session.draft()
    try:
        if draft.windows != []:
            planning.target(draft, facts, visit.config_of_draft())
        if measured is None or draft.method != planning.MERGES:
            return [], ""
        return planning.windows(draft, measured, facts), ""
    except ComeError as error:
        return [], str(error)


# --- what can be chosen ------------------------------------------------------------------------------


def _toolbar(measured: Measurement | None, facts: Facts) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("Start from", width="content")
        for preset in planning.PRESETS:
            st.button(
                f"−{preset.label}" if preset.share else preset.label,
                key=f"preset-{preset.label}",
                help=preset.help if preset.share or measured else f"{preset.help} Needs an analysis first.",
                disabled=preset.pairs is not None and measured is None,
                on_click=_apply,
                args=(preset, measured, facts),
            )
        st.button(
            "Undo",
            key="undo",
            icon=":material/undo:",
            type="tertiary",
            on_click=session.undo,
            disabled=not session.can_undo(),
        )
        st.button(
            "Redo",
            key="redo",
            icon=":material/redo:",
            type="tertiary",
            on_click=session.redo,
            disabled=not session.can_redo(),
        )


def _apply(preset: planning.Preset, measured: Measurement | None, facts: Facts) -> None:
    try:
        session.set_draft(planning.apply(preset, session.draft(), measured, facts))
    except ComeError as error:
        session.set_problem(str(error))


def _method() -> None:
    methods = come.merge.methods()
    draft = session.draft()
    if draft.method not in methods:
        session.set_draft(Draft())
        draft = session.draft()
    session.put("method-choice", draft.method)
    st.selectbox(
        "Method",
        list(methods),
        key="method-choice",
        format_func=lambda name: methods[name].title,
        on_change=lambda: session.set_draft(_with_method(session.draft(), session.value("method-choice"))),
    )
    method = methods[draft.method]
    st.caption(f"{method.summary} {method.paper}".strip())


def _with_method(draft: Draft, method: str) -> Draft:
    layers = visit.target_layers(visit.facts()) if draft.windows is not None else draft.target_layers
    return Draft(method=method, target_layers=layers, sparsity=draft.sparsity)


def _aim(facts: Facts, windows: list[DraftWindow]) -> None:
    draft = session.draft()
    aim = "hand" if draft.windows is not None else "layers" if draft.target_layers is not None else "share"
    aims = list(AIMS) if draft.method == planning.MERGES else [name for name in AIMS if name != "hand"]
    session.put("aim", aim)
    st.segmented_control(
        "Decide by",
        aims,
        key="aim",
        format_func=AIMS.__getitem__,
        required=True,
        on_change=_set_aim,
        args=(facts, windows),
    )
    if aim == "layers":
        session.put("target", draft.target_layers)
        st.slider(
            f"Layers left of {facts.layers}",
            min(1, draft.target_layers),
            max(facts.layers, draft.target_layers),
            key="target",
            on_change=lambda: session.set_draft(replace(session.draft(), target_layers=session.value("target"))),
        )
    elif aim == "share":
        most = int(100 * (facts.layers - 1) * facts.layer_parameters / facts.parameters)
        share = round(100 * (session.DEFAULT_SPARSITY if draft.sparsity is None else draft.sparsity))
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
        with suppress(ComeError):  # told beside the figure
            layers = visit.target_layers(facts)
            removed = 1 - facts.parameters_at(layers) / facts.parameters
            st.caption(f"Becomes {layers} of {facts.layers} layers, which removes {removed:.1%}.")


def _set_aim(facts: Facts, windows: list[DraftWindow]) -> None:
    draft, aim = session.draft(), session.value("aim")
    if aim == "hand":
        session.set_draft(planning.by_hand(draft, [(window.first, window.last) for window in windows]))
        return
    blank = replace(draft, windows=None, ratios=None, target_layers=None, sparsity=None)
    try:
        layers = visit.target_layers(facts)
    except ComeError:
        layers = facts.layers
    if aim == "layers":
        session.set_draft(replace(blank, target_layers=min(max(layers, 1), facts.layers)))
    else:
        session.set_draft(replace(blank, sparsity=session.DEFAULT_SPARSITY))


def _settings() -> None:
    draft = session.draft()
    kind = come.merge.methods()[draft.method].options
    skip = ("windows", "ratios") + (("span", "no_repeat") if draft.windows is not None else ())
    if not [name for name, _, _ in options.fields(kind) if name not in skip]:
        return

    def change(name: str, value: object) -> None:
        now = session.draft()
        session.set_draft(replace(now, options=options.changed(kind, now.options, name, value)))

    with st.expander("Settings of the method"):
        options.draw(kind, draft.options, change, skip)


# --- what comes of it --------------------------------------------------------------------------------


def _outcome(facts: Facts, fault: str) -> None:
    """Layers, parameters and bytes, before and after."""
    if fault:
        return
    layers = visit.target_layers(facts)
    count = facts.parameters_at(layers)
    rows = {
        "Layers": (str(facts.layers), str(layers)),
        "Parameters": (widgets.human_count(facts.parameters), widgets.human_count(count)),
        "float32": tuple(widgets.human_bytes(facts.bytes_at(n)) for n in (facts.layers, layers)),
        "bfloat16, float16": tuple(widgets.human_bytes(facts.bytes_at(n, "bfloat16")) for n in (facts.layers, layers)),
    }
    removed = f"Removed {widgets.percent(count / facts.parameters - 1)}"
    cells = "".join(
        f"<div><span>{name}</span><b>{after}</b><span>of {before}</span></div>"
        for name, (before, after) in rows.items()
    )
    st.html(f"<div class='come-facts' aria-label='{removed}'>{cells}</div>")


def _kept(measured: Measurement | None, facts: Facts, is_example: bool, windows: list[DraftWindow]) -> None:
    draft = session.draft()
    if draft.method != planning.MERGES:
        title = come.merge.methods()[draft.method].title
        st.info(f"Which layers {title} takes is decided in the run.")
        return
    if measured is None:
        widgets.empty_state(
            "What each layer would keep is not known yet",
            "The model has not been analysed on this text. The plan can run without it.",
            "model",
            "Analyse the model",
        )
        return
    final = planning.pieces(windows, facts)
    figure = plan_figures.strips(facts.layers, facts.intermediate_size, facts.num_key_value_heads, final)
    widgets.figure(figure, key="strips", alt="The layers before and after; the table below holds the numbers.")
    st.caption(_how_sure(measured, is_example, draft))
    if windows:
        st.dataframe(
            _table(windows, facts),
            hide_index=True,
            height="content",
            column_config={"SBI": st.column_config.NumberColumn(format="%.4f")},
        )
        widgets.info("How this is decided", HOW)


def _how_sure(measured: Measurement, is_example: bool, draft: Draft) -> str:
    where = f"the shipped example's analysis of {measured.n_tokens:,} tokens" if is_example else "this analysis"
    if draft.windows is not None:
        return (
            f"Tall part: feed-forward channels. Low part: key/value groups. Exact for {where}: "
            "windows by hand are all measured on the original model."
        )
    return (
        f"Tall part: feed-forward channels. Low part: key/value groups. An estimate from {where}: "
        "the run measures again after each merge, so later windows may differ."
    )


def _table(windows: list[DraftWindow], facts: Facts) -> pd.DataFrame:
    def each(values: tuple[float, ...] | tuple[int, ...], form: str) -> str:
        return " + ".join(format(value, form) for value in values)

    return pd.DataFrame(
        {
            "Layers": [f"{window.first}–{window.last}" for window in windows],
            "Ratio": [each(window.ratio, ".0%") for window in windows],
            f"FFN channels kept of {facts.intermediate_size:,}": [each(window.channels, ",") for window in windows],
            f"KV groups kept of {facts.num_key_value_heads}": [each(window.kv_groups, "") for window in windows],
            "SBI": [window.skip_influence for window in windows],
        }
    )


def _sizes(facts: Facts) -> None:
    """The plan's size among the runs already made on this model, where there are any."""
    found = comparison.of_model(come.runs.list_runs(), facts.source) or comparison.of_model(
        example.runs(), facts.source
    )
    if not found:
        return
    results = [item.pruned for item in found if item.pruned]
    original = next((item.original for item in found if item.original), None)
    titles = {name: method.title for name, method in come.merge.methods().items()}
    count = facts.parameters_at(visit.target_layers(facts))
    figure = compare_figures.perplexity_figure(results, original, titles, "parameters", plan=count)
    figure.update_layout(title_text="What runs on this model have cost so far", height=320)
    widgets.figure(figure, key="sizes", alt="Perplexity of earlier runs against parameters, with this plan's size")
    st.caption(f"{found[0].title}. A plan has no quality before it runs: this only shows where its size lies.")


# --- taking it further -------------------------------------------------------------------------------


def _end(fault: str) -> None:
    draft = session.draft()
    ready = not fault and draft.windows != []
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Go to run", key="go-to-run", type="primary", icon=":material/arrow_forward:", disabled=not ready):
            session.open_run(None)
            st.switch_page(widgets.PAGES / "run.py")
        if ready:
            document = request.to_json(request.config(session.choice(), visit.config_of_draft()))
            st.download_button(
                "Download the plan",
                document,
                "plan-request.json",
                "application/json",
                key="download",
                icon=":material/download:",
                on_click="ignore",
            )
        with st.popover("Upload a plan", icon=":material/upload:"):
            st.file_uploader("A request that this page wrote", type="json", key="upload", on_change=_upload)


def _upload() -> None:
    file = session.value("upload")
    if file is None:
        return
    try:
        choice, draft = request.from_json(file.getvalue())
        if draft.method not in come.merge.methods():
            raise ComeError(f"There is no method {draft.method!r}.", f"There are {', '.join(come.merge.methods())}.")
        facts = come.models.describe(choice.model)
        if draft.windows != []:
            planning.target(draft, facts, session.plan_fields(draft))
        session.set_choice(choice)
        session.set_draft(draft)
    except ComeError as error:
        session.set_problem(str(error))


page()
